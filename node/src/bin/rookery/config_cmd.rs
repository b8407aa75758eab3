//! `rookery config check`: the settings that `rookery start` would run with, and where each came from.
//!
//! Takes the same flags, environment and file as `start`, and judges them by the same code. Prints an aligned table
//! for people or one JSON object for programs, and all problems at once. Exit code 0 only if `start` would take the
//! settings; certificates, DNS and sockets are not touched.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Map, json};

use crate::settings::{self, Loaded, Row, SettingsArgs, SettingsError, Surroundings};

/// Arguments of `rookery config check`.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheckArgs {
    /// The same flags as `rookery start`.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Print one JSON object: {"ok", "settings": {option: {"value", "source"}}, "warnings", "problems"}.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command; true if the settings are right.
///
/// # Errors
/// Only those of writing to `out` and `err`.
pub(crate) fn check(
    args: &ConfigCheckArgs,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<bool> {
    let loaded = settings::load(&args.settings, surroundings);
    if args.json {
        let report = match &loaded {
            Ok(loaded) => json_of(loaded),
            Err(error) => json_of_problems(error),
        };
        writeln!(out, "{report:#}")?;
        return Ok(loaded.is_ok());
    }
    match &loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(err, "warning: {warning}")?;
            }
            write_table(&loaded.rows, out)?;
        }
        Err(error) => writeln!(err, "{error}")?,
    }
    Ok(loaded.is_ok())
}

fn json_of(loaded: &Loaded) -> serde_json::Value {
    let settings: Map<_, _> = loaded
        .rows
        .iter()
        .map(|row| (row.option.to_owned(), json!({ "value": row.value, "source": row.origin.to_string() })))
        .collect();
    json!({ "ok": true, "settings": settings, "warnings": loaded.warnings, "problems": [] })
}

fn json_of_problems(error: &SettingsError) -> serde_json::Value {
    let problems: Vec<_> = error
        .problems
        .iter()
        .map(|problem| {
            json!({
                "option": problem.option,
                "value": problem.value,
                "source": problem.origin.to_string(),
                "what": problem.what,
                "hint": problem.accepted,
                "message": problem.to_string(),
            })
        })
        .collect();
    json!({ "ok": false, "problems": problems })
}

fn write_table(rows: &[Row], out: &mut dyn Write) -> io::Result<()> {
    let width =
        |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text.chars().count()).max().unwrap_or_default();
    let options = width(&mut rows.iter().map(|row| row.option).chain(["OPTION"]));
    let values = width(&mut rows.iter().map(|row| row.text.as_str()).chain(["VALUE"]));
    writeln!(out, "{:options$}  {:values$}  SOURCE", "OPTION", "VALUE")?;
    for row in rows {
        writeln!(out, "{:options$}  {:values$}  {}", row.option, row.text, row.origin)?;
    }
    Ok(())
}
