//! The `rookery` program as an operator runs it: a process of the operating system.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rookery_node::tls::{Authority, ClusterName, Overwrite};

/// Where cargo has put the program: beside the tests, whenever the whole workspace is tested, since the program's own
/// package has an integration test; and beside the programs of this package.
///
/// # Panics
/// When it is not there, with what to do.
#[must_use]
pub fn rookery() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let dir = own.parent().unwrap();
    let dir = if dir.ends_with("deps") { dir.parent().unwrap() } else { dir };
    let program = dir.join("rookery");
    assert!(program.exists(), "{} is missing: `cargo build -p rookery-node` makes it", program.display());
    program
}

/// A directory with a CA and identities, for programs to be given.
pub struct Certificates {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Certificates {
    /// A new cluster's.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        Self::within(&std::env::temp_dir(), cluster)
    }

    /// As [`new`](Self::new), in a directory within that one.
    #[must_use]
    pub fn within(directory: &Path, cluster: &str) -> Self {
        let authority = Authority::create(&ClusterName::try_from(cluster).unwrap()).unwrap();
        Self { dir: tempfile::tempdir_in(directory).unwrap(), authority }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A node's identity.
    #[must_use]
    pub fn node(&self, name: &str) -> PathBuf {
        self.node_for(name, Duration::from_secs(86_400))
    }

    /// A node's identity that is valid for so long.
    #[must_use]
    pub fn node_for(&self, name: &str, valid: Duration) -> PathBuf {
        let dir = self.dir.path().join(name);
        let issued = self.authority.issue_node(name, &[], valid).unwrap();
        issued.write_to(&dir, Overwrite::Force).unwrap();
        dir
    }

    /// A client's identity.
    #[must_use]
    pub fn client(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        let issued = self.authority.issue_client(name, Duration::from_secs(86_400)).unwrap();
        issued.write_to(&dir, Overwrite::Force).unwrap();
        dir
    }
}

/// A running program, which ends with its owner.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts the program with what it logs in `log`.
    #[must_use]
    pub fn start(log: &Path, arguments: &[&str]) -> Self {
        Self::start_of(&rookery(), log, arguments)
    }

    /// As [`start`](Self::start), another program.
    #[must_use]
    pub fn start_of(program: &Path, log: &Path, arguments: &[&str]) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let child = command(program, arguments).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log: log.to_owned() }
    }

    /// The address that it says, in its log, that it listens on. Waits for it.
    pub async fn listen_address(&self) -> String {
        let mut address = String::new();
        crate::eventually("the node says where it listens", || {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let found = log.split_once("listen=").and_then(|(_, rest)| rest.split_whitespace().next());
            address = found.unwrap_or_default().to_owned();
            !address.is_empty()
        })
        .await;
        address
    }

    /// The number that the operating system gave it.
    #[must_use]
    pub fn os_pid(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// When the operating system does not say.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal, as `STOP`.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([format!("-{signal}"), pid]).status().unwrap().success());
    }

    /// SIGTERM, and the exit status. Waits for it.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut status = None;
        crate::eventually("the program has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOKERY_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the program to its end.
#[must_use]
pub fn run(arguments: &[&str]) -> Output {
    command(&rookery(), arguments).output().unwrap()
}

/// What clients of the nodes that [`node`] starts may do.
const POLICY: &str = "[[client]]\nname = \"ops\"\nspawn = [\"*\"]\nregister = [\"*\"]\nexit = true\n";

/// The command line of a client.
#[derive(Debug, Clone)]
pub struct Cli {
    /// Where it connects to.
    pub connect: String,
    /// The directory of its identity.
    pub identity: String,
}

impl Cli {
    /// Runs a command to its end.
    #[must_use]
    pub fn output(&self, arguments: &[&str]) -> Output {
        run(&[arguments, &["--connect", &self.connect, "--identity", &self.identity]].concat())
    }

    /// What it prints when it succeeds.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out.trim_end().to_owned()
    }

    /// What it prints with `--json`.
    ///
    /// # Panics
    /// When it does not succeed, or that is not JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What it says when it fails.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Starts a node, and gives it with the address that it listens on. Its clients called `ops` may do everything that the
/// command line does.
pub async fn node(certificates: &Certificates, name: &str, more: &[&str]) -> (Program, String) {
    node_of(POLICY, certificates, name, more).await
}

/// As [`node`], with this file.
pub async fn node_of(toml: &str, certificates: &Certificates, name: &str, more: &[&str]) -> (Program, String) {
    let identity = certificates.node(name).display().to_string();
    let config = certificates.dir().join(format!("{name}.toml"));
    std::fs::write(&config, toml).unwrap();
    let config = config.display().to_string();
    let arguments = ["start", "--name", name, "--identity", &identity, "--config", &config, "--listen", "127.0.0.1:0"];
    let program = Program::start(&certificates.dir().join(format!("{name}.log")), &[&arguments, more].concat());
    let address = program.listen_address().await;
    (program, address)
}
