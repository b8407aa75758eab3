//! The `rookery` binary: reads the command line and hands over to one file per command. What its exit status says is one
//! rule for all of them, [`status`].

mod bench;
mod certs;
mod config_cmd;
mod connect;
mod demo;
mod doctor;
mod inspect;
mod log;
mod monitor;
mod names;
mod nodes;
mod out;
mod ps;
mod send;
mod settings;
mod spawn;
mod start;
mod sys;
mod target;
mod top;
mod tree;

use std::{error::Error, io, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use connect::ConnectArgs;
use settings::{SettingsArgs, Surroundings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Distributed Erlang's processes on Kubernetes, in Rust.
#[derive(Debug, Parser)]
#[command(name = "rookery", version, max_term_width = 110, after_help = status::HELP)]
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
    /// Measure what this machine does with processes, here and between nodes.
    Bench(bench::BenchArgs),
    /// A node of `bench`.
    #[command(hide = true)]
    BenchNode(bench::BenchNodeArgs),
    /// The other end of `bench bare-quinn`.
    #[command(hide = true)]
    BenchQuinn(bench::BenchQuinnArgs),
    /// Make a CA and certificates for development, and look at certificates.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Look at the settings that a node would start with.
    Config {
        #[command(subcommand)]
        command: ConfigCmd,
    },
    /// Look at DNS, certificates, clock, ports, MTU, versions and peers from where a node runs or is to run, and tell what is wrong and
    /// what to do. The exit status is 1 if something is.
    Doctor(doctor::DoctorArgs),
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
    /// Print the settings that `start` would run with and where each came from, and what its certificate says. The exit
    /// status is what that of `start` would be: 2 if a setting is wrong, 1 if the identity cannot be used.
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
    /// Tell everything that is known of a process.
    Inspect {
        #[command(flatten)]
        args: inspect::InspectArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Draw the supervision trees of the cluster.
    Tree {
        #[command(flatten)]
        args: tree::TreeArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Watch the processes of the cluster, as `top` and `htop` do.
    Top {
        #[command(flatten)]
        args: top::TopArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// List the names of the nodes and of the cluster, with who has them.
    Names {
        #[command(flatten)]
        args: names::NamesArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// List the groups of the cluster, or the members of one.
    Groups {
        #[command(flatten)]
        args: names::GroupsArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Suspend a server that allows it: it handles nothing more until it is resumed.
    Suspend {
        #[command(flatten)]
        args: sys::SysArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Let a suspended server go on.
    Resume {
        #[command(flatten)]
        args: sys::SysArgs,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// Print the state of a server that allows it.
    State {
        #[command(flatten)]
        args: sys::SysArgs,
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

/// The exit status.
pub(crate) mod status {
    /// What was asked has happened.
    pub(crate) const DONE: u8 = 0;
    /// It was tried, and has not happened.
    pub(crate) const NOT_DONE: u8 = 1;
    /// What was asked makes no sense, and nothing was tried. clap ends with it, too.
    pub(crate) const MISUSED: u8 = 2;

    /// The rule, for people.
    pub(crate) const HELP: &str = "Exit status: 0 if what was asked has happened; 1 if it has not, and why stands on \
        standard error; 2 if the command line, the environment or the settings file is wrong, and nothing was tried.";
}

fn main() -> ExitCode {
    let status = run(Cli::parse()).unwrap_or_else(|error| {
        log::complain(&format!("rookery: {error}"));
        let no_identity = matches!(error.downcast_ref(), Some(connect::CommandError::NoIdentity));
        if no_identity || error.is::<settings::SettingsError>() { status::MISUSED } else { status::NOT_DONE }
    });
    status.into()
}

fn run(cli: Cli) -> Result<u8, Box<dyn Error>> {
    let surroundings = Surroundings::of_this_process();
    match cli.command {
        Cmd::Start(args) => {
            let loaded = settings::load(&args, &surroundings)?;
            log::init(&loaded.settings.log, &surroundings)?;
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            start::run(loaded.settings)?;
        }
        Cmd::Demo(args) => {
            let as_it_should = demo::run(&args)?;
            return Ok(if as_it_should { status::DONE } else { status::NOT_DONE });
        }
        Cmd::Bench(args) => bench::run(&args).map_err(|error| -> Box<dyn Error> { error })?,
        Cmd::BenchQuinn(args) => bench::run_quinn(args).map_err(|error| -> Box<dyn Error> { error })?,
        Cmd::BenchNode(args) => bench::run_node(args).map_err(|error| -> Box<dyn Error> { error })?,
        Cmd::Certs(command) => {
            certs::run(command)?;
        }
        Cmd::Config { command: ConfigCmd::Check(args) } => {
            return Ok(config_cmd::check(&args, &surroundings, &mut io::stdout(), &mut io::stderr())?);
        }
        Cmd::Doctor(args) => return Ok(doctor::run(&args, settings::load(&args.settings, &surroundings)?)?),
        Cmd::Completions { shell } => {
            // By way of a buffer: it panics when what it writes to is closed, as `| head` does.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rookery", &mut script);
            out::text(&script)?;
        }
        Cmd::Client(command) => {
            // One command, one connection: a thread each for it and its network is plenty.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run_client(command))?;
        }
    }
    Ok(status::DONE)
}

async fn run_client(command: ClientCmd) -> Result<(), connect::CommandError> {
    match command {
        ClientCmd::Nodes { connect } => connect.with(nodes::run).await,
        ClientCmd::Ps { args, connect } => connect.with(async |session| ps::run(&args, session).await).await,
        ClientCmd::Inspect { args, connect } => connect.with(async |session| inspect::run(&args, session).await).await,
        ClientCmd::Tree { args, connect } => connect.with(async |session| tree::run(&args, session).await).await,
        ClientCmd::Top { args, connect } => connect.with(async |session| top::run(&args, session).await).await,
        ClientCmd::Names { args, connect } => connect.with(async |session| names::names(&args, session).await).await,
        ClientCmd::Groups { args, connect } => connect.with(async |session| names::groups(&args, session).await).await,
        ClientCmd::Suspend { args, connect } => connect.with(async |session| sys::suspend(&args, session).await).await,
        ClientCmd::Resume { args, connect } => connect.with(async |session| sys::resume(&args, session).await).await,
        ClientCmd::State { args, connect } => connect.with(async |session| sys::state(&args, session).await).await,
        ClientCmd::Spawn { args, connect } => connect.with(async |session| spawn::run(args, session).await).await,
        ClientCmd::Send { args, connect } => connect.with(async |session| send::send(args, session).await).await,
        ClientCmd::Call { args, connect } => connect.with(async |session| send::call(args, session).await).await,
        ClientCmd::Monitor { args, connect } => {
            connect.with(async |session| monitor::monitor(args, session).await).await
        }
        ClientCmd::Kill { args, connect } => connect.with(async |session| monitor::kill(args, session).await).await,
    }
}
