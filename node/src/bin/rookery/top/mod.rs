//! `rookery top`: the processes of the cluster as they are, second by second.
//!
//! ```text
//! keyboard (a thread) ─┐                        ┌─▶ picture (view.rs)
//! nodes (source.rs) ───┼─▶ Model (pure) ────────┤
//! signals, the clock ──┘                        └─▶ actions: look again, inspect, kill
//! ```
//! The terminal is given back however it ends: by a key, a signal, an error or a panic.

mod model;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};
use ratatui::{
    DefaultTerminal, Terminal,
    backend::TestBackend,
    crossterm::event::{self, KeyEvent, KeyEventKind},
};
use rookery_node::{ExitReason, Pid, system::MAX_LISTED};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::MissedTickBehavior,
};

use super::{
    connect::{CommandError, Session},
    inspect, log, monitor, out,
};
use model::{Action, Model};
use rows::{Column, Snapshot};
use source::{Source, Wanted};

/// What has happened and was not drawn yet: some keys, and an answer of each kind.
const MAX_EVENTS: usize = 64;

/// How often the keyboard's thread looks whether it is still wanted.
const KEYBOARD_LOOKS: Duration = Duration::from_millis(100);

/// How wide one picture is where nobody says.
const ONCE_WIDTH: u16 = 120;

/// How many processes one picture has.
const ONCE_ROWS: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Only this node and its processes.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// How often to look, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval: u64,
    /// The column to sort by.
    #[arg(long, value_enum, default_value_t = Sort::Mailbox)]
    sort: Sort,
    /// Sort the other way round.
    #[arg(long)]
    reverse: bool,
    /// Only processes with this text, in either case, in their pid, behaviour or a name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// At most so many processes of each node.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LISTED)))]
    limit: u32,
    /// Print one picture as text, over one interval, and end.
    #[arg(long)]
    once: bool,
}

/// [`Column`], as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Pid,
    Name,
    Behaviour,
    State,
    Mailbox,
    Rate,
    Handled,
    Memory,
    Age,
}

impl From<Sort> for Column {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Pid => Self::Pid,
            Sort::Name => Self::Name,
            Sort::Behaviour => Self::Behaviour,
            Sort::State => Self::State,
            Sort::Mailbox => Self::Mailbox,
            Sort::Rate => Self::Rate,
            Sort::Handled => Self::Handled,
            Sort::Memory => Self::Memory,
            Sort::Age => Self::Age,
        }
    }
}

pub(crate) async fn run(args: &TopArgs, session: &Session) -> Result<(), CommandError> {
    if let Some(name) = &args.node {
        session.node(Some(name)).await?;
    }
    let source = Source::new(session, args.node.clone(), args.limit);
    let model = Model::new(args.sort.into(), args.reverse, args.filter.clone());
    let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if session.json || args.once || !has_terminal {
        if !session.json && !args.once {
            log::complain(&"rookery: no terminal here: this is one picture, as --once prints it");
        }
        return once(args, session, &source, model).await;
    }
    live(args, source, model).await
}

/// Prints what happens within one interval.
async fn once(args: &TopArgs, session: &Session, source: &Source, mut model: Model) -> Result<(), CommandError> {
    let wanted = wanted(&model);
    let look = async || source.look(&wanted).await.map_err(CommandError::NotDone);
    let before = look().await?;
    tokio::time::sleep(Duration::from_millis(args.interval)).await;
    let now = look().await?;
    let silent = now.silent.clone();
    if session.json {
        session.print_json(&serde_json::json!({ "nodes": now.nodes, "processes": now.processes }))?;
    } else {
        model.handle_snapshot(before);
        model.handle_snapshot(now);
        for line in picture(&mut model)? {
            out::line(&line)?;
        }
    }
    match silent.is_empty() {
        true => Ok(()),
        false => Err(CommandError::NotDone(format!("did not answer: {}", silent.join("; ")))),
    }
}

/// One picture, as text: as wide as `COLUMNS` says, as high as it needs.
fn picture(model: &mut Model) -> io::Result<Vec<String>> {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(ONCE_WIDTH);
    let heads = model.snapshot.as_ref().map_or(1, |snapshot| 1 + snapshot.nodes.len() + snapshot.silent.len());
    let rows = model.rows.len().min(ONCE_ROWS);
    // The nodes have a third at most; below is a line for the keys, which is not printed.
    let height = u16::try_from((heads * 3).max(heads + rows + 2)).unwrap_or(u16::MAX);
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width.clamp(20, 1_000), height));
    let Ok(_) = terminal.draw(|frame| view::draw(frame, model));
    let buffer = terminal.backend().buffer();
    let line = |y| (0..buffer.area.width).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol()).collect();
    let lines: Vec<String> = (0..height - 1).map(line).collect();
    let lines: Vec<String> = lines.iter().map(|line: &String| line.trim_end().to_owned()).collect();
    let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    Ok(lines.into_iter().take(end).collect())
}

/// What has happened.
enum Happened {
    Key(KeyEvent),
    /// The terminal has another size: the next picture has it, too.
    Resized,
    /// The keyboard cannot be read any more.
    NoKeyboard(io::Error),
    Looked(Result<Snapshot, String>),
    Details(Pid, Result<Vec<String>, String>),
    Killed(Result<String, String>),
}

/// Gives the terminal back.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        // With a hook that gives it back before a panic is told.
        ratatui::try_init().map(Self).inspect_err(|_| drop(ratatui::try_restore()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.0.show_cursor());
        drop(ratatui::try_restore());
    }
}

async fn live(args: &TopArgs, source: Source, mut model: Model) -> Result<(), CommandError> {
    let (tell, mut happened) = mpsc::channel(MAX_EVENTS);
    let mut stop = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let mut screen = Screen::take()?;
    keyboard(tell.clone())?;
    let mut clock = tokio::time::interval(Duration::from_millis(args.interval));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks { source, tell, under_way: false, again: false };
    loop {
        screen.0.draw(|frame| view::draw(frame, &mut model))?;
        let first = tokio::select! {
            Some(first) = happened.recv() => first,
            _ = clock.tick() => {
                if looks.under_way {
                    model.handle_slow();
                } else if !model.paused {
                    looks.look(&model);
                }
                continue;
            }
            () = told(&mut stop) => return Ok(()),
        };
        // All that has happened goes into one picture.
        let mut next = Some(first);
        while let Some(one) = next {
            match one {
                Happened::Key(key) => match model.handle_key(key) {
                    Some(Action::Quit) => return Ok(()),
                    Some(Action::Refresh) => looks.look(&model),
                    Some(Action::Inspect(pid)) => looks.inspect(pid),
                    Some(Action::Kill(pid)) => looks.kill(pid),
                    None => {}
                },
                Happened::Resized => {}
                Happened::NoKeyboard(error) => return Err(error.into()),
                Happened::Looked(looked) => {
                    match looked {
                        Ok(snapshot) => model.handle_snapshot(snapshot),
                        Err(why) => model.handle_lost(why),
                    }
                    if let Some(pid) = model.details_of() {
                        looks.inspect(pid.clone());
                    }
                    looks.looked(&model);
                }
                Happened::Details(pid, details) => model.handle_details(&pid, details),
                Happened::Killed(outcome) => model.handle_killed(outcome),
            }
            next = happened.try_recv().ok();
        }
    }
}

/// Waits for one of these signals.
async fn told(signals: &mut [io::Result<tokio::signal::unix::Signal>; 3]) {
    let [terminate, interrupt, hangup] = signals;
    let one = async |signal: &mut io::Result<tokio::signal::unix::Signal>| match signal {
        Ok(signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = one(terminate) => {}
        () = one(interrupt) => {}
        () = one(hangup) => {}
    }
}

/// Reads the keyboard on a thread of its own, until nobody listens any more.
fn keyboard(tell: mpsc::Sender<Happened>) -> io::Result<()> {
    let read = move || {
        while !tell.is_closed() {
            let one = match event::poll(KEYBOARD_LOOKS) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let one = match one {
                Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Happened::Key(key),
                Ok(event::Event::Resize(..)) => Happened::Resized,
                Ok(_) => continue,
                Err(error) => {
                    drop(tell.blocking_send(Happened::NoKeyboard(error)));
                    return;
                }
            };
            drop(tell.blocking_send(one));
        }
    };
    thread::Builder::new().name("rookery-keyboard".to_owned()).spawn(read).map(drop)
}

fn wanted(model: &Model) -> Wanted {
    Wanted { sort: model.sort, reverse: model.reverse, filter: model.filter().to_owned() }
}

/// Looks at the nodes beside the keyboard; what comes of it is told.
struct Looks {
    source: Source,
    tell: mpsc::Sender<Happened>,
    /// One look at a time: a slow cluster is not asked the faster for it.
    under_way: bool,
    /// Something else is wanted since.
    again: bool,
}

impl Looks {
    fn look(&mut self, model: &Model) {
        if std::mem::replace(&mut self.under_way, true) {
            self.again = true;
            return;
        }
        let wanted = wanted(model);
        self.beside(async move |source| Happened::Looked(source.look(&wanted).await));
    }

    fn looked(&mut self, model: &Model) {
        self.under_way = false;
        if std::mem::take(&mut self.again) {
            self.look(model);
        }
    }

    fn inspect(&self, pid: Pid) {
        self.beside(async move |source| {
            let details = source.session().details(&pid).await;
            let told = match details {
                Ok(Some(details)) => Ok(inspect::lines(&details)),
                Ok(None) => Err(format!("{pid} has ended")),
                Err(error) => Err(error.to_string()),
            };
            Happened::Details(pid, told)
        });
    }

    fn kill(&self, pid: Pid) {
        self.beside(async move |source| {
            let ended = monitor::end(&source.session(), &pid, ExitReason::Kill).await;
            Happened::Killed(ended.map(|reason| format!("{pid} ended: {reason}")))
        });
    }

    fn beside<F>(&self, work: impl FnOnce(Source) -> F)
    where
        F: Future<Output = Happened> + Send + 'static,
    {
        let (work, tell) = (work(self.source.clone()), self.tell.clone());
        tokio::spawn(async move { drop(tell.send(work.await).await) });
    }
}
