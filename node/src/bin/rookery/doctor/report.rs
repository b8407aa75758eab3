//! What the checks found, for people and for programs.

use std::{fmt::Display, io};

use serde::Serialize;

use super::super::out;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// All is well.
    Ok,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
    /// It works, and will not for long, or not as well as it could.
    Warning,
    /// It does not work.
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Of which check.
    pub(crate) check: &'static str,
    pub(crate) outcome: Outcome,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// All that was found, in the order of the checks.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn ok(&mut self, check: &'static str, found: impl Display) {
        self.add(check, Outcome::Ok, found, None);
    }

    pub(crate) fn skipped(&mut self, check: &'static str, why: impl Display) {
        self.add(check, Outcome::Skipped, why, None);
    }

    pub(crate) fn warning(&mut self, check: &'static str, found: impl Display, advice: &str) {
        self.add(check, Outcome::Warning, found, Some(advice));
    }

    /// `advice` may be empty, where what was found says what to do.
    pub(crate) fn failed(&mut self, check: &'static str, found: impl Display, advice: &str) {
        self.add(check, Outcome::Failed, found, Some(advice).filter(|advice| !advice.is_empty()));
    }

    fn add(&mut self, check: &'static str, outcome: Outcome, found: impl Display, advice: Option<&str>) {
        let advice = advice.map(str::to_owned);
        self.findings.push(Finding { check, outcome, found: found.to_string(), advice });
    }

    /// Whether nothing failed.
    pub(crate) fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.outcome != Outcome::Failed)
    }

    /// Prints it: a line for each finding, what to do below it; or one JSON object.
    pub(crate) fn print(&self, json: bool) -> io::Result<()> {
        if json {
            let text = serde_json::json!({ "ok": self.is_well(), "checks": self.findings });
            return out::line(&text);
        }
        for Finding { check, outcome, found, advice } in &self.findings {
            out::line(&format!("{:<8} {check:<13} {found}", outcome.word()))?;
            if let Some(advice) = advice {
                out::line(&format!("{:<22} → {advice}", ""))?;
            }
        }
        let failed = self.findings.iter().filter(|finding| finding.outcome == Outcome::Failed).count();
        match failed {
            0 => out::line(&"\nNothing is wrong that could be seen from here."),
            1 => out::line(&"\nOne thing is wrong."),
            _ => out::line(&format!("\n{failed} things are wrong.")),
        }
    }
}
