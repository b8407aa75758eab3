//! `rookery certs`: a CA and identities for development, and a look at any certificate. It turns
//! flags into calls of [`rookery_runtime::tls`], which makes and writes the files, and says what was
//! made and what to do with it. Nothing is overwritten without `--force`. Text goes to standard
//! output, errors to the caller.

mod show;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use rookery_runtime::tls::limits::SECONDS_A_DAY;
use rookery_runtime::tls::{
    Authority, AuthorityError, ClientName, ClusterName, IssuedPem, LoadError, Overwrite, WriteError, rfc3339,
};

/// Longest validity that can be asked for: the CA's own, which is ten years.
const MAX_VALID_DAYS: u64 = 3650;

/// Make a CA and certificates for development, and look at certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make the CA of a cluster.
    Init(InitArgs),
    /// Issue a certificate for a node or a client, with its key.
    #[command(subcommand)]
    Issue(IssueCommand),
    /// Show what certificates say: cluster, role, DNS names, validity.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Name of the cluster: 1 to 63 of a-z, 0-9 and -.
    #[arg(long, value_name = "NAME")]
    cluster: ClusterName,
    /// Directory to put ca.pem and ca-key.pem into.
    #[arg(long, default_value = "./certs")]
    dir: PathBuf,
    /// Replace a CA that is there. What it issued is then worthless.
    #[arg(long)]
    force: bool,
    /// Do nothing if a CA is there.
    #[arg(long, conflicts_with = "force")]
    keep: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IssueCommand {
    /// For a node: it can dial and be dialled.
    Node {
        /// The node's DNS host name, such as orders-0.orders.default.svc.cluster.local.
        name: String,
        /// A further DNS name that the node may go by; *.rest allows any one label before rest. Can
        /// be given several times.
        #[arg(long = "dns", value_name = "NAME")]
        dns_names: Vec<String>,
        #[command(flatten)]
        issue: IssueArgs,
    },
    /// For a program or person outside the mesh: it can only dial.
    Client {
        /// By what name the cluster's policy knows it: letters, digits, -, . and _.
        name: ClientName,
        #[command(flatten)]
        issue: IssueArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    /// Directory of the CA, as `rookery certs init` made it.
    #[arg(long, default_value = "./certs")]
    dir: PathBuf,
    /// Directory to put ca.pem, cert.pem and key.pem into [default: DIR/NAME].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// For how many days it is valid.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 365,
        value_parser = clap::value_parser!(u64).range(1..=MAX_VALID_DAYS)
    )]
    valid_days: u64,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// Do nothing if files are there.
    #[arg(long, conflicts_with = "force")]
    keep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A PEM file, or a directory of an identity or a CA.
    path: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Why a `rookery certs` command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertsError {
    /// The CA could not be made, read or used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The certificates could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Files could not be written.
    #[error(transparent)]
    Write(WriteError),
    /// A CA is there already.
    #[error(
        "{} is there already, and nothing was written; issue from that CA with `rookery certs \
         issue`, or replace it with --force, which makes everything worthless that it issued",
        path.display()
    )]
    AuthorityExists {
        /// The file that is there.
        path: PathBuf,
    },
    /// An identity is there already.
    #[error(
        "{} is there already, and nothing was written; give another directory with --out, or \
         replace the files with --force",
        path.display()
    )]
    IdentityExists {
        /// The file that is there.
        path: PathBuf,
    },
    /// Standard output cannot be written to.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs a `rookery certs` command and prints what it did to standard output.
pub(crate) fn run(command: CertsCommand) -> Result<(), CertsError> {
    match run_to(command, &mut io::stdout().lock()) {
        // Whoever reads has read enough, as `head` does.
        Err(CertsError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn run_to(command: CertsCommand, out: &mut dyn Write) -> Result<(), CertsError> {
    let keep = match &command {
        CertsCommand::Init(args) => args.keep,
        CertsCommand::Issue(IssueCommand::Node { issue, .. } | IssueCommand::Client { issue, .. }) => issue.keep,
        CertsCommand::Show(_) => false,
    };
    match carry_out(command, out) {
        Err(CertsError::AuthorityExists { path } | CertsError::IdentityExists { path }) if keep => {
            Ok(writeln!(out, "{} is there already, and is kept", path.display())?)
        }
        done => done,
    }
}

fn carry_out(command: CertsCommand, out: &mut dyn Write) -> Result<(), CertsError> {
    match command {
        CertsCommand::Init(args) => init(&args, out),
        CertsCommand::Issue(IssueCommand::Node { name, dns_names, issue }) => {
            let authority = Authority::load(&issue.dir)?;
            let issued = authority.issue_node(&name, &dns_names, issue.valid())?;
            let dir = issue.write(&issued, &name)?;
            let cluster = authority.cluster();
            writeln!(out, "Issued an identity for node {name} of cluster {cluster}:\n")?;
            issue.print_files(&dir, out)?;
            if !dns_names.is_empty() {
                writeln!(out, "\nIt may also go by: {}", dns_names.join(", "))?;
            }
            let dir = dir.display();
            writeln!(out, "\nNext, start the node with it, here or as a Secret in Kubernetes:\n")?;
            writeln!(out, "  rookery start --identity {dir}")?;
            writeln!(out, "  kubectl create secret generic rookery-identity --from-file={dir}")?;
            Ok(())
        }
        CertsCommand::Issue(IssueCommand::Client { name, issue }) => {
            let authority = Authority::load(&issue.dir)?;
            let issued = authority.issue_client(name.as_str(), issue.valid())?;
            let dir = issue.write(&issued, name.as_str())?;
            let cluster = authority.cluster();
            writeln!(out, "Issued an identity for client {name} of cluster {cluster}:\n")?;
            issue.print_files(&dir, out)?;
            writeln!(out, "\nNext, use it with any node of the cluster:\n")?;
            writeln!(out, "  rookery nodes --connect HOST:PORT --identity {}", dir.display())?;
            Ok(())
        }
        CertsCommand::Show(args) => show::show(&args.path, args.json, out),
    }
}

fn init(args: &InitArgs, out: &mut dyn Write) -> Result<(), CertsError> {
    let authority = Authority::create(&args.cluster)?;
    authority.save(&args.dir, overwrite(args.force)).map_err(|error| match error {
        WriteError::Exists { path } => CertsError::AuthorityExists { path },
        other => CertsError::Write(other),
    })?;
    let (dir, until) = (args.dir.display(), rfc3339(authority.not_after()));
    writeln!(out, "Made the CA of cluster {}, valid until {until}:\n", args.cluster)?;
    writeln!(out, "  {dir}/ca.pem      whom to trust; goes to every node and client")?;
    writeln!(out, "  {dir}/ca-key.pem  keep it secret: who has it can make nodes of this cluster")?;
    writeln!(out, "\nNext, issue an identity for each node and each client:\n")?;
    let option = dir_option(&args.dir);
    writeln!(out, "  rookery certs issue node HOSTNAME{option}")?;
    writeln!(out, "  rookery certs issue client NAME{option}")?;
    Ok(())
}

/// How to name the directory in a command that is proposed; the default needs no naming.
fn dir_option(dir: &Path) -> String {
    if dir == Path::new("./certs") { String::new() } else { format!(" --dir {}", dir.display()) }
}

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Force } else { Overwrite::Refuse }
}

impl IssueArgs {
    fn valid(&self) -> Duration {
        Duration::from_secs(self.valid_days * SECONDS_A_DAY)
    }

    /// Writes the identity and says where.
    fn write(&self, issued: &IssuedPem, name: &str) -> Result<PathBuf, CertsError> {
        let dir = self.out.clone().unwrap_or_else(|| self.dir.join(name));
        issued.write_to(&dir, overwrite(self.force)).map_err(|error| match error {
            WriteError::Exists { path } => CertsError::IdentityExists { path },
            other => CertsError::Write(other),
        })?;
        Ok(dir)
    }

    fn print_files(&self, dir: &Path, out: &mut dyn Write) -> io::Result<()> {
        let (dir, days) = (dir.display(), self.valid_days);
        let unit = if days == 1 { "day" } else { "days" };
        writeln!(out, "  {dir}/ca.pem    whom it trusts")?;
        writeln!(out, "  {dir}/cert.pem  who it is, valid for {days} {unit}")?;
        writeln!(out, "  {dir}/key.pem   its key, readable by you alone: keep it secret")
    }
}
