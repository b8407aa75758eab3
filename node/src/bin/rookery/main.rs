//! The `rookery` binary: reads the command line and hands over to one file per command. Exit status 0 says that what was
//! asked has happened, 1 that it has not and why stands on standard error, 2 that the command line is wrong.

mod certs;
mod config_cmd;
mod connect;
mod demo;
mod log;
mod monitor;
mod nodes;
mod out;
mod ps;
mod send;
mod settings;
mod spawn;
mod start;
mod target;

use std::{error::Error, io, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use connect::ConnectArgs;
use settings::{SettingsArgs, Surroundings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Distributed Erlang's processes on Kubernetes, in Rust.
#[derive(Debug, Parser)]
#[command(name = "rookery", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Start a node, and run it until it is told to end.
    Start(SettingsArgs),
    /// Watch a mesh of nodes on this machine form, talk, lose a node and heal.
    Demo(demo::DemoArgs),
    /// Make a CA and certificates for development, and look at certificates.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Look at the settings that a node would start with.
    Config {
        #[command(subcommand)]
        command: ConfigCmd,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Client(ClientCmd),
}

#[derive(Debug, Subcommand)]
enum ConfigCmd {
    /// Print the settings that `start` would run with and where each came from; exit 1 if something is wrong.
    Check(config_cmd::ConfigCheckArgs),
}

/// Commands that connect to a node as a client.
#[derive(Debug, Subcommand)]
enum ClientCmd {
    /// List the nodes of the cluster.
    Nodes {
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// List the processes of the nodes.
    Ps {
        #[command(flatten)]
        args: ps::PsArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Start a process, and print its pid.
    Spawn {
        #[command(flatten)]
        args: spawn::SpawnArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Send a message. Success says that it was sent; whether somebody received it, only `call` tells.
    Send {
        #[command(flatten)]
        args: send::MessageArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Call a process, and print its answer.
    Call {
        #[command(flatten)]
        args: send::MessageArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Wait for the end of a process, and print why it ended.
    Monitor {
        #[command(flatten)]
        args: monitor::MonitorArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// End a process, and wait until it has ended.
    Kill {
        #[command(flatten)]
        args: monitor::KillArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log::complain(&format!("rookery: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<bool, Box<dyn Error>> {
    let surroundings = Surroundings::of_this_process();
    match cli.command {
        Cmd::Start(args) => {
            let loaded = settings::load(&args, &surroundings)?;
            log::init(&loaded.settings.log, &surroundings)?;
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            start::run(loaded.settings)?;
            Ok(true)
        }
        Cmd::Demo(args) => Ok(demo::run(&args)?),
        Cmd::Certs(command) => {
            certs::run(command)?;
            Ok(true)
        }
        Cmd::Config { command: ConfigCmd::Check(args) } => {
            Ok(config_cmd::check(&args, &surroundings, &mut io::stdout(), &mut io::stderr())?)
        }
        Cmd::Completions { shell } => {
            // By way of a buffer: it panics when what it writes to is closed, as `| head` does.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rookery", &mut script);
            out::text(&script)?;
            Ok(true)
        }
        Cmd::Client(command) => {
            // One command, one connection: a thread each for it and its network is plenty.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run_client(command))?;
            Ok(true)
        }
    }
}

async fn run_client(command: ClientCmd) -> Result<(), connect::CommandError> {
    match command {
        ClientCmd::Nodes { connect } => connect.with(nodes::run).await,
        ClientCmd::Ps { args, connect } => connect.with(async |session| ps::run(&args, session).await).await,
        ClientCmd::Spawn { args, connect } => connect.with(async |session| spawn::run(args, session).await).await,
        ClientCmd::Send { args, connect } => connect.with(async |session| send::send(args, session).await).await,
        ClientCmd::Call { args, connect } => connect.with(async |session| send::call(args, session).await).await,
        ClientCmd::Monitor { args, connect } => {
            connect.with(async |session| monitor::monitor(args, session).await).await
        }
        ClientCmd::Kill { args, connect } => connect.with(async |session| monitor::kill(args, session).await).await,
    }
}
