//! What the two processes, the porters of their nodes and the supervisor do: the drivers, as they are written.

use rookery_protocol::ExitReason;

use super::world::{
    Answer, Bug, Child, Event, Message, NEW, NewProcess, OLD, OldProcess, PART, Question, Waiting, World, ms, pid,
};
use crate::{
    handover::{
        limits::{ASK_PATIENCE, FORWARDS_FOR, MAX_STATE_BYTES, OFFER_PATIENCE, PARTING_PATIENCE, RELAY_PATIENCE},
        parting::{Arriving, Outcome, Parting},
        state::Handover,
        succeeding::{Step, Way},
        wire::{Offer, Part, Relayed},
    },
    reply::CallError,
    requests::REQUEST_TIMEOUT,
};

impl World {
    /// `at` has noticed that it has no connection with `lost` any more.
    pub(super) fn lost(&mut self, at: usize, lost: usize) {
        let calls: Vec<u64> =
            self.waiting.iter().filter(|(_, call)| call.at == at && call.of == lost).map(|(call, _)| *call).collect();
        for call in calls {
            self.answered(call, Err(CallError::NoConnection));
        }
        if at == OLD && lost == self.home && self.old_linked {
            self.old = OldProcess::Ended;
        }
        if at == OLD && lost == NEW {
            self.successor_down();
        }
        if at == NEW && lost == self.home {
            self.new_ends();
        }
        if at == self.home && lost == NEW {
            self.not_moved();
        }
    }

    /// The old process's node hears that the new one is gone.
    pub(super) fn successor_down(&mut self) {
        if matches!(self.old, OldProcess::PassesOn) {
            self.old = if self.bug == Bug::GoesOnAfterCommit { OldProcess::Serves } else { OldProcess::Ended };
        }
        if std::mem::take(&mut self.watches)
            && matches!(&self.old, OldProcess::Parts(parting) if parting.waits_for(&pid(NEW)))
        {
            self.old = OldProcess::Serves;
        }
    }

    pub(super) fn new_ends(&mut self) {
        if !matches!(self.new, NewProcess::NotYet | NewProcess::Ended) {
            self.new = NewProcess::Ended;
            self.send(NEW, OLD, Message::Down);
            self.send(NEW, self.home, Message::Started(false));
        }
    }

    /// The supervisor's start has failed.
    pub(super) fn not_moved(&mut self) {
        if self.child == Child::Moving {
            self.child = Child::Old;
        }
    }

    pub(super) fn arrives(&mut self, from: usize, to: usize, message: Message) {
        match message {
            // To the supervisor, which begins; then to the new process's node.
            Message::Start if self.child == Child::Old => {
                self.child = Child::Moving;
                self.after(ms(REQUEST_TIMEOUT), Event::StartLate);
                if self.home == NEW || !self.send(self.home, NEW, Message::Start) {
                    self.starts(to == NEW);
                }
            }
            Message::Start => self.starts(to == NEW),
            Message::Started(true) if self.child == Child::Moving => {
                self.child = Child::New;
                self.send(self.home, OLD, Message::Retire);
            }
            // Nobody waits for it any more.
            Message::Started(true) => drop(self.send(self.home, NEW, Message::Kill)),
            Message::Started(false) => self.not_moved(),
            Message::Down => self.successor_down(),
            Message::Kill => self.new_ends(),
            Message::Retire => self.old_linked = false,
            Message::Ask { call, question: Question::Relay } => {
                let question = Question::Commit;
                self.ask(to, OLD, question, ms(RELAY_PATIENCE), Some(call));
            }
            Message::Ask { call, question } => {
                let answer = self.asked(&question);
                self.send(to, from, Message::Answer { call, answer });
            }
            Message::Answer { call, answer } => self.answered(call, answer),
        }
    }

    pub(super) fn starts(&mut self, there: bool) {
        if !there {
            return self.not_moved();
        }
        if matches!(self.new, NewProcess::NotYet) {
            self.new = NewProcess::WantsOffer;
            self.new_until = self.now + ms(PARTING_PATIENCE);
            self.ask(NEW, OLD, Question::Offer, ms(OFFER_PATIENCE), None);
        }
    }

    /// The old process, or the porter of its node, is asked by the new one.
    pub(super) fn asked(&mut self, question: &Question) -> Result<Answer, CallError> {
        let refused = |why: &str| Err(CallError::Refused(why.to_owned()));
        if matches!(self.old, OldProcess::Ended) {
            return Err(CallError::Exited(ExitReason::NoProc));
        }
        let new = pid(NEW);
        match (question, &self.old) {
            (Question::Offer, OldProcess::Serves) => {
                let state = Handover::bytes(1, self.old_state.clone()).unwrap();
                let parting = Parting::new(new.clone(), Some(state), self.instant());
                let Outcome::Answer(offer) = parting.offer(&new, PART) else { return refused("to another one") };
                self.old = OldProcess::Parts(parting);
                self.after(ms(PARTING_PATIENCE), Event::PartingOver);
                self.watches = true;
                if self.connection(OLD, NEW).is_none() {
                    self.successor_down();
                }
                Ok(Answer::Offer(offer))
            }
            (Question::Part(offset), OldProcess::Parts(parting)) => match parting.part(&new, *offset, PART) {
                Outcome::Answer(part) => Ok(Answer::Part(part)),
                Outcome::Refuse(why) => Err(CallError::Refused(why)),
            },
            (Question::Commit, OldProcess::Parts(parting)) => {
                self.watches = false;
                match parting.commit(&new) {
                    Outcome::Answer(()) => {
                        self.old = OldProcess::PassesOn;
                        self.after(ms(FORWARDS_FOR), Event::PassingOver);
                        Ok(Answer::Done)
                    }
                    Outcome::Refuse(why) => Err(CallError::Refused(why)),
                }
            }
            (Question::Commit, OldProcess::PassesOn) => Ok(Answer::Done),
            _ => refused("it goes on"),
        }
    }

    pub(super) fn answered(&mut self, call: u64, answer: Result<Answer, CallError>) {
        let Some(Waiting { at, relays, .. }) = self.waiting.remove(&call) else { return };
        if !self.lives[at] {
            return;
        }
        if let Some(call) = relays {
            let relayed = Relayed::of(answer.map(drop));
            self.send(at, NEW, Message::Answer { call, answer: Ok(Answer::Relayed(relayed)) });
            return;
        }
        match (std::mem::replace(&mut self.new, NewProcess::Ended), answer) {
            (NewProcess::WantsOffer, Ok(Answer::Offer(Offer::State { version, bytes, first }))) => {
                self.new = NewProcess::WantsParts(Arriving::new(version, bytes, &first, MAX_STATE_BYTES).unwrap());
                self.next_part();
            }
            (NewProcess::WantsParts(mut arriving), Ok(Answer::Part(Part(part)))) => {
                arriving.add(&part).unwrap();
                self.new = NewProcess::WantsParts(arriving);
                self.next_part();
            }
            (NewProcess::Commits(mut succeeding), answer) => {
                let answer = match answer {
                    Ok(Answer::Relayed(relayed)) => relayed.answer(),
                    other => other.map(drop),
                };
                let step = succeeding.answered(answer, self.instant());
                self.new = NewProcess::Commits(succeeding);
                match step {
                    Step::Ask(way) => self.commit(way),
                    Step::Serve => {
                        self.new = NewProcess::Serves;
                        self.send(NEW, self.home, Message::Started(true));
                    }
                    Step::Fail(_) => self.new_ends(),
                }
            }
            (former, _) => {
                // It cannot have the state, and ends.
                self.new = former;
                self.new_ends();
            }
        }
    }

    pub(super) fn next_part(&mut self) {
        let NewProcess::WantsParts(arriving) = &self.new else { return };
        match arriving.wants() {
            Some(offset) => self.ask(NEW, OLD, Question::Part(offset), ms(ASK_PATIENCE), None),
            None => {
                if let NewProcess::WantsParts(arriving) = std::mem::replace(&mut self.new, NewProcess::TakesOver) {
                    self.new_state = arriving.whole().unwrap().body().to_vec();
                    let wait = self.below(20);
                    self.after(wait, Event::HasTakenOver);
                }
            }
        }
    }

    pub(super) fn commit(&mut self, way: Way) {
        match way {
            Way::Straight => self.ask(NEW, OLD, Question::Commit, ms(ASK_PATIENCE), None),
            Way::BySupervisor => self.ask(NEW, self.home, Question::Relay, ms(ASK_PATIENCE), None),
        }
    }
}
