//! The `rookery` binary: reads the command line and hands over to one file per command.

#![allow(dead_code, reason = "the settings are read by `start`, which comes with the node")]

mod config_cmd;
mod log;
mod settings;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use settings::{SettingsArgs, Surroundings};

/// Distributed Erlang's processes on Kubernetes, in Rust.
#[derive(Debug, Parser)]
#[command(name = "rookery", version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Start a node.
    Start(SettingsArgs),
    /// Settings.
    Config {
        #[command(subcommand)]
        command: ConfigCmd,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCmd {
    /// Print the settings that `start` would run with and where each came from; exit 1 if something is wrong.
    Check(config_cmd::ConfigCheckArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<bool, Box<dyn std::error::Error>> {
    let surroundings = Surroundings::of_this_process();
    match cli.command {
        Cmd::Start(args) => {
            let loaded = settings::load(&args, &surroundings)?;
            log::init(&loaded.settings.log, &surroundings)?;
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            tracing::info!(name = loaded.settings.name, listen = %loaded.settings.listen, "settings read");
            Ok(true)
        }
        Cmd::Config { command: ConfigCmd::Check(args) } => {
            Ok(config_cmd::check(&args, &surroundings, &mut io::stdout(), &mut io::stderr())?)
        }
        Cmd::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "rookery", &mut io::stdout());
            Ok(true)
        }
    }
}
