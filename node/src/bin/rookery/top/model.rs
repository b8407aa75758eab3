//! What `rookery top` shows and what keys do to it. Pure: snapshots and keys go in, actions and a picture come out.
//!
//! The selection stays on its process, wherever that is sorted to; when the process ends it stays in its place.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use rookery_node::Pid;

use super::rows::{Column, Rates, Row, Snapshot, as_tree, sort};

/// What the driver does for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    /// Look at the nodes now.
    Refresh,
    /// Tell everything about this process.
    Inspect(Pid),
    /// End this process.
    Kill(Pid),
}

/// What takes the keys just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    Table,
    /// A text is typed; the selection goes to the first that has it.
    Search(String),
    /// A text is typed; only what has it is listed. With the filter that was before.
    Filter {
        text: String,
        before: String,
    },
    /// A column is chosen, by its number.
    Sort(usize),
    /// Asks before it ends a process.
    Kill {
        pid: Pid,
        what: String,
    },
    Help,
    /// Everything about a process, from this line on.
    Details {
        pid: Pid,
        lines: Vec<String>,
        from: usize,
    },
}

/// How busy a node is, between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Busy {
    /// The share of its threads' time, from 0 to 1.
    pub(crate) workers: f64,
    /// How many CPUs its program used.
    pub(crate) cpus: f64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) snapshot: Option<Snapshot>,
    /// Of each node of the snapshot; none where there was none before.
    pub(crate) busy: Vec<Option<Busy>>,
    rates: Rates,
    /// All rows of the snapshot, in no order.
    all: Vec<Row>,
    /// Those that are shown, in order.
    pub(crate) rows: Vec<Row>,
    pub(crate) sort: Column,
    pub(crate) reverse: bool,
    pub(crate) filter: String,
    pub(crate) tree: bool,
    pub(crate) paused: bool,
    pub(crate) mode: Mode,
    /// The process that is selected, and where it stood.
    selected: Option<Pid>,
    pub(crate) at: usize,
    /// The first row that is shown.
    pub(crate) top: usize,
    /// How many rows are shown at once; told by who draws.
    pub(crate) page: usize,
    /// What is said at the bottom, until the next key.
    pub(crate) said: Option<String>,
    /// Why nothing new comes, while nothing does.
    pub(crate) lost: Option<String>,
}

impl Model {
    pub(crate) fn new(sort: Column, reverse: bool, filter: String) -> Self {
        Self {
            snapshot: None,
            busy: Vec::new(),
            rates: Rates::default(),
            all: Vec::new(),
            rows: Vec::new(),
            sort,
            reverse,
            filter,
            tree: false,
            paused: false,
            mode: Mode::Table,
            selected: None,
            at: 0,
            top: 0,
            page: 1,
            said: None,
            lost: None,
        }
    }

    /// The nodes were looked at.
    pub(crate) fn handle_snapshot(&mut self, snapshot: Snapshot) {
        self.lost = None;
        if self.paused {
            return;
        }
        self.busy = snapshot.nodes.iter().map(|node| self.busy_of(&snapshot, node)).collect();
        self.all = self.rates.rows(&snapshot);
        self.snapshot = Some(snapshot);
        self.arrange();
    }

    fn busy_of(&self, now: &Snapshot, node: &rookery_node::system::NodeInfo) -> Option<Busy> {
        let before = self.snapshot.as_ref()?;
        let was = before.nodes.iter().find(|was| was.node == node.node)?;
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let workers = node.load.busy_us.saturating_sub(was.load.busy_us) as f64 / 1e6;
        let cpu_ms = node.load.cpu_ms?.saturating_sub(was.load.cpu_ms?) as f64;
        Some(Busy {
            workers: (workers / seconds / f64::from(node.load.workers.max(1))).min(1.0),
            cpus: cpu_ms / 1e3 / seconds,
        })
    }

    /// It is time to look at the nodes, and they have not yet answered the last look.
    pub(crate) fn handle_slow(&mut self) {
        self.lost.get_or_insert_with(|| "no answer yet".to_owned());
    }

    /// The nodes could not be looked at.
    pub(crate) fn handle_lost(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// What became of an [`Action::Inspect`].
    pub(crate) fn handle_details(&mut self, pid: &Pid, told: Result<Vec<String>, String>) {
        match (told, &mut self.mode) {
            // Looked at again.
            (Ok(new), Mode::Details { pid: shown, lines, .. }) if shown == pid => *lines = new,
            (Ok(lines), Mode::Table) => self.mode = Mode::Details { pid: pid.clone(), lines, from: 0 },
            (Ok(_), _) => {}
            (Err(why), Mode::Details { .. }) => (self.mode, self.said) = (Mode::Table, Some(why)),
            (Err(why), _) => self.said = Some(why),
        }
    }

    /// What became of an [`Action::Kill`].
    pub(crate) fn handle_killed(&mut self, outcome: Result<String, String>) {
        self.said = Some(outcome.unwrap_or_else(|why| why));
    }

    /// The process whose details are shown, which are to be asked for again.
    pub(crate) fn details_of(&self) -> Option<&Pid> {
        match &self.mode {
            Mode::Details { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// The filter as it is now, typed to its end or not.
    pub(crate) fn filter(&self) -> &str {
        match &self.mode {
            Mode::Filter { text, .. } => text,
            _ => &self.filter,
        }
    }

    pub(crate) fn selected(&self) -> Option<&Row> {
        self.rows.get(self.at)
    }

    /// Makes rows of all that there are.
    fn arrange(&mut self) {
        let text = self.filter().to_lowercase();
        let mut rows: Vec<Row> = self.all.iter().filter(|row| row.has(&text)).cloned().collect();
        sort(&mut rows, self.sort, self.reverse);
        self.rows = if self.tree { as_tree(rows) } else { rows };
        let selected = self.selected.as_ref().and_then(|pid| self.rows.iter().position(|row| row.info.pid == *pid));
        self.select(selected.unwrap_or(self.at));
    }

    fn select(&mut self, at: usize) {
        self.at = at.min(self.rows.len().saturating_sub(1));
        self.selected = self.selected().map(|row| row.info.pid.clone());
        self.scroll();
    }

    /// So many rows are shown at once.
    pub(crate) fn set_page(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.scroll();
    }

    /// Keeps the selected row in sight, and the page full.
    fn scroll(&mut self) {
        self.top = self.top.min(self.at).max((self.at + 1).saturating_sub(self.page));
        self.top = self.top.min(self.rows.len().saturating_sub(self.page));
    }

    fn move_by(&mut self, rows: isize) {
        self.select(self.at.saturating_add_signed(rows));
    }

    pub(crate) fn handle_key(&mut self, key: KeyEvent) -> Option<Action> {
        self.said = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Action::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Table => self.table_key(key.code),
            Mode::Search(text) => self.search_key(key.code, text),
            Mode::Filter { text, before } => self.filter_key(key.code, text, before),
            Mode::Sort(at) => self.sort_key(key.code, at),
            Mode::Kill { pid, .. } => matches!(key.code, KeyCode::Char('y' | 'Y')).then_some(Action::Kill(pid)),
            Mode::Help => None,
            Mode::Details { pid, lines, from } => {
                self.details_key(key.code, pid, lines, from);
                None
            }
        }
    }

    fn table_key(&mut self, key: KeyCode) -> Option<Action> {
        let page = isize::try_from(self.page).unwrap_or(1);
        match key {
            KeyCode::Up => self.move_by(-1),
            KeyCode::Down => self.move_by(1),
            KeyCode::PageUp => self.move_by(-page),
            KeyCode::PageDown => self.move_by(page),
            KeyCode::Home => self.select(0),
            KeyCode::End => self.select(usize::MAX),
            KeyCode::F(1) | KeyCode::Char('h' | '?') => self.mode = Mode::Help,
            KeyCode::F(3) | KeyCode::Char('/') => self.mode = Mode::Search(String::new()),
            KeyCode::F(4) | KeyCode::Char('\\') => {
                self.mode = Mode::Filter { text: self.filter.clone(), before: self.filter.clone() };
            }
            KeyCode::F(5) | KeyCode::Char('t') => {
                self.tree = !self.tree;
                self.arrange();
            }
            KeyCode::F(6) | KeyCode::Char('>' | '<') => {
                self.mode = Mode::Sort(Column::ALL.iter().position(|column| *column == self.sort).unwrap_or(0));
            }
            KeyCode::Char('I') => return self.sort_by(self.sort, !self.reverse),
            KeyCode::Char(' ') => {
                self.paused = !self.paused;
                return (!self.paused).then_some(Action::Refresh);
            }
            KeyCode::F(9) | KeyCode::Char('k') => {
                if let Some(row) = self.selected() {
                    let what = super::super::ps::names(&row.info);
                    self.mode = Mode::Kill { pid: row.info.pid.clone(), what };
                }
            }
            KeyCode::Enter => return self.selected().map(|row| Action::Inspect(row.info.pid.clone())),
            KeyCode::F(10) | KeyCode::Char('q') => return Some(Action::Quit),
            _ => {}
        }
        None
    }

    fn search_key(&mut self, key: KeyCode, mut text: String) -> Option<Action> {
        // The row that is selected counts, unless the next one is asked for.
        let from = match key {
            KeyCode::Char(character) => {
                text.push(character);
                self.at
            }
            KeyCode::Backspace => {
                text.pop();
                self.at
            }
            KeyCode::F(3) | KeyCode::Down => self.at + 1,
            KeyCode::Enter | KeyCode::Esc => return None,
            _ => self.at,
        };
        let lower = text.to_lowercase();
        let count = self.rows.len();
        let found = (0..count).map(|step| (from + step) % count).find(|at| self.rows[*at].has(&lower));
        match found {
            Some(at) => self.select(at),
            None => self.said = Some(format!("nothing here has `{text}`; F4 asks the nodes for it")),
        }
        self.mode = Mode::Search(text);
        None
    }

    fn filter_key(&mut self, key: KeyCode, mut text: String, before: String) -> Option<Action> {
        match key {
            KeyCode::Char(character) => text.push(character),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Enter => {
                self.filter = text;
                self.arrange();
                return Some(Action::Refresh);
            }
            KeyCode::Esc => {
                self.filter = before;
                self.arrange();
                return None;
            }
            _ => {}
        }
        self.mode = Mode::Filter { text, before };
        self.arrange();
        // There may be more that has it than was listed.
        Some(Action::Refresh)
    }

    fn sort_key(&mut self, key: KeyCode, at: usize) -> Option<Action> {
        let last = Column::ALL.len() - 1;
        let at = match key {
            KeyCode::Up => at.saturating_sub(1),
            KeyCode::Down => (at + 1).min(last),
            KeyCode::Home | KeyCode::PageUp => 0,
            KeyCode::End | KeyCode::PageDown => last,
            KeyCode::Enter => {
                let column = Column::ALL[at.min(last)];
                // The same column again is the other way round.
                return self.sort_by(column, column == self.sort && !self.reverse);
            }
            KeyCode::Esc | KeyCode::F(6 | 10) | KeyCode::Char('q') => return None,
            _ => at,
        };
        self.mode = Mode::Sort(at);
        None
    }

    fn sort_by(&mut self, column: Column, reverse: bool) -> Option<Action> {
        (self.sort, self.reverse) = (column, reverse);
        self.arrange();
        // The nodes choose by it what they list.
        Some(Action::Refresh)
    }

    fn details_key(&mut self, key: KeyCode, pid: Pid, lines: Vec<String>, from: usize) {
        let last = lines.len().saturating_sub(self.page);
        let from = match key {
            KeyCode::Up => from.saturating_sub(1),
            KeyCode::Down => from + 1,
            KeyCode::PageUp => from.saturating_sub(self.page),
            KeyCode::PageDown => from + self.page,
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => return,
        };
        self.mode = Mode::Details { pid, lines, from: from.min(last) };
    }
}
