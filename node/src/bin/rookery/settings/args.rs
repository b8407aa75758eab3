//! The flags of `rookery start` and `rookery config check`, made for clap from the table of options.
//!
//! Flags are taken as text and judged with all other layers in `settings.rs`, so that a wrong value is told in the
//! same words wherever it was set. Each flag's help ends with its default and its environment variable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::layers::CONFIG_VARIABLE;
use super::options::OPTIONS;

/// What the command line said about settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SettingsArgs {
    /// The TOML file, if one was named by flag.
    pub(crate) config: Option<PathBuf>,
    /// Each flag that was given, by the key of its option; a repeated list flag joined by commas.
    pub(crate) flags: BTreeMap<&'static str, String>,
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            self.config = Some(path.clone());
        }
        for spec in OPTIONS {
            if let Some(values) = matches.get_many::<String>(spec.key) {
                let joined = values.map(String::as_str).collect::<Vec<_>>().join(",");
                self.flags.insert(spec.key, joined);
            }
        }
        Ok(())
    }
}

impl Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .short('c')
            .value_name("FILE")
            .value_parser(ValueParser::path_buf())
            .help(format!("TOML file with settings [default: none] [env: {CONFIG_VARIABLE}]"));
        OPTIONS.iter().fold(command.arg(config), |command, spec| {
            let action = if spec.list { ArgAction::Append } else { ArgAction::Set };
            let help = format!("{} [default: {}] [env: {}]", spec.help, spec.default.describe(), spec.variable);
            command.arg(
                Arg::new(spec.key)
                    .long(spec.flag)
                    .value_name(spec.value_name)
                    .help_heading(spec.heading)
                    .action(action)
                    .help(help),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
