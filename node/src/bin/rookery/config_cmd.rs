//! `rookery config check`: the settings that `rookery start` would run with, and where each came from.
//!
//! Takes the same flags, environment and file as `start`, and judges them, and the certificate, by the same code. Prints
//! an aligned table for people or one JSON object for programs, and all problems at once. The exit status is what that
//! of `start` would be; DNS and sockets are not touched.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Map, json};

use rookery_node::tls::{PeerIdentity, rfc3339};

use crate::{
    settings::{self, Loaded, Row, SettingsArgs, SettingsError, Surroundings},
    start::{self, RunError},
    status,
};

/// Arguments of `rookery config check`.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheckArgs {
    /// The same flags as `rookery start`.
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Print one JSON object: {"ok", "settings": {option: {"value", "source"}}, "certificate", "warnings", "problems"}.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command; gives the exit status.
///
/// # Errors
/// Only those of writing to `out` and `err`.
pub(crate) fn check(
    args: &ConfigCheckArgs,
    surroundings: &Surroundings,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let loaded = match settings::load(&args.settings, surroundings) {
        Ok(loaded) => loaded,
        Err(error) => {
            if args.json {
                writeln!(out, "{:#}", json_of_problems(&error))?;
            } else {
                writeln!(err, "{error}")?;
            }
            return Ok(status::MISUSED);
        }
    };
    let certificate = certificate(&loaded);
    let status = if certificate.is_ok() { status::DONE } else { status::NOT_DONE };
    if args.json {
        writeln!(out, "{:#}", json_of(&loaded, certificate))?;
        return Ok(status);
    }
    for warning in &loaded.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    write_table(&loaded.rows, out)?;
    match certificate {
        Ok(says) => writeln!(out, "\nCertificate: {says}")?,
        Err(error) => writeln!(err, "`rookery start` would end with: {error}")?,
    }
    Ok(status)
}

/// What the certificate of these settings says, or why `start` would not take it.
fn certificate(loaded: &Loaded) -> Result<String, RunError> {
    let config = start::node_config(loaded.settings.clone())?;
    config.check()?;
    let own: &PeerIdentity = config.identity.own();
    Ok(format!("{own}, valid until {}", rfc3339(own.not_after)))
}

fn json_of(loaded: &Loaded, certificate: Result<String, RunError>) -> serde_json::Value {
    let settings: Map<_, _> = loaded
        .rows
        .iter()
        .map(|row| (row.option.to_owned(), json!({ "value": row.value, "source": row.origin.to_string() })))
        .collect();
    let (says, problem) = match certificate {
        Ok(says) => (Some(says), None),
        Err(error) => (None, Some(json!({ "option": "identity", "message": error.to_string() }))),
    };
    json!({
        "ok": problem.is_none(),
        "settings": settings,
        "certificate": says,
        "warnings": loaded.warnings,
        "problems": problem.into_iter().collect::<Vec<_>>(),
    })
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
