//! The moment in which two connections serve one peer: from when this end has gone over until the peer has as well, and all of the old
//! one was read at both ends.

use std::time::Duration;

use quinn::RecvStream;
use rookery_protocol::{ControlFrame, control::Goodbye};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    super::control::{ConnectionError, close_code},
    FAREWELL, Leg, Made, Served, Serving, control, send_all,
};

/// How long an old connection stays when both ends know that all of it was read: so that the last words are acknowledged.
const LINGER: Duration = Duration::from_secs(3);

/// How often it is looked whether the old connection still moves.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// For how long nothing has moved on the old connection. Pure.
struct Stall {
    limit: Duration,
    looked: Instant,
    /// Pieces of streams that had gone and come by then.
    moved: u64,
    still: Duration,
}

impl Stall {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, looked: now, moved: 0, still: Duration::ZERO }
    }

    /// Looks: so much has moved so far. Whether it was too long ago. Time in which nobody could look counts as one look: an end that
    /// was stopped could not read either.
    fn look(&mut self, now: Instant, moved: u64) -> bool {
        let since = now.saturating_duration_since(self.looked).min(2 * LOOK_EVERY);
        self.still = if moved == self.moved { self.still + since } else { Duration::ZERO };
        (self.looked, self.moved) = (now, moved);
        self.still >= self.limit
    }
}

/// Pieces of streams that have gone and come. Keep-alives and pings are none, so it stands still where nobody reads or writes.
fn moved(connection: &quinn::Connection) -> u64 {
    let stats = connection.stats();
    stats.frame_rx.stream + stats.frame_tx.stream
}

impl<S: Served> Serving<'_, S> {
    /// Goes over from one connection to the next. `None`: this end has nothing to send any more, and the old one tells why.
    pub(super) async fn go_over(
        &mut self,
        old: &mut Leg,
        next: Made<S::Note>,
        lane: Option<RecvStream>,
    ) -> Result<Option<Leg>, ConnectionError> {
        let served = self.served;
        let Some(turned) = served.outbound().turn() else {
            return if old.has_read { Err(self.why_closed(old).await) } else { Ok(None) };
        };
        let (mut new, note) = Leg::new(served, next, turned, lane);
        // Whether the peer knows that this end has read all of the old one, and the other way round.
        let (mut said, mut heard) = (false, false);
        let mut stall = Stall::new(self.patience.stalled, Instant::now());
        let mut looks = interval(LOOK_EVERY.min(self.patience.stalled));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if old.has_read && !said {
                let finished = timeout(self.patience.stalled, old.sender.finish()).await;
                finished.unwrap_or(Err(ConnectionError::NotGoneOver(self.patience.stalled)))?;
                said = true;
            }
            if said && heard && old.has_written {
                break;
            }
            let ended = tokio::select! {
                ended = old.reading.as_mut(), if !old.has_read => ended.map(|()| old.has_read = true),
                ended = old.writing.as_mut(), if !old.has_written => ended.map(|()| old.has_written = true),
                end = control(served, &mut old.receiver), if !heard => match end {
                    ConnectionError::StreamClosed(_) => {
                        heard = true;
                        Ok(())
                    }
                    // It has not gone over, and leaves.
                    end @ ConnectionError::Goodbye(_) => {
                        old.last_words().await;
                        return Err(end);
                    }
                    end => Err(end),
                },
                silent = old.watching.as_mut() => silent,
                // From here on what fails is the new one's.
                ended = new.reading.as_mut(), if old.has_read && !new.has_read => {
                    new.has_read = ended.map(|()| true)?;
                    Ok(())
                }
                ended = new.writing.as_mut() => {
                    return Err(ended.err().unwrap_or(ConnectionError::StreamClosed("lane")));
                }
                silent = new.watching.as_mut() => {
                    return Err(silent.err().unwrap_or(ConnectionError::StreamClosed("lane")));
                }
                end = control(served, &mut new.receiver) => {
                    if matches!(end, ConnectionError::Goodbye(_)) {
                        last_words(old, &mut new).await;
                    }
                    return Err(end);
                }
                error = send_all(&mut new.sender, &mut self.queue) => return Err(error),
                now = looks.tick() => match stall.look(now, moved(&old.connection)) {
                    true => Err(ConnectionError::NotGoneOver(self.patience.stalled)),
                    false => Ok(()),
                },
                reason = served.leaves() => {
                    farewell(served, old, &mut new, &reason).await;
                    return Err(ConnectionError::Leaving(reason));
                }
            };
            match ended {
                Err(error) if error.is_renewed() && old.has_read => (heard, old.has_written) = (true, true),
                ended => ended?,
            }
        }
        if !served.has_gone_over(&new.connection, note) {
            return Err(ConnectionError::StreamClosed("lane"));
        }
        let former = old.connection.clone();
        tokio::spawn(async move {
            drop(timeout(LINGER, former.closed()).await);
            former.close(close_code::RENEWED, b"another connection has taken its place");
        });
        Ok(Some(new))
    }
}

impl<S: Served> Serving<'_, S> {
    /// The peer has gone over, and this end cannot: why.
    async fn why_closed(&self, old: &mut Leg) -> ConnectionError {
        tokio::select! {
            biased;
            reason = self.served.leaves() => {
                old.farewell(self.served.outbound(), &reason).await;
                ConnectionError::Leaving(reason)
            }
            ended = timeout(FAREWELL, old.writing.as_mut()) => match ended {
                Ok(Err(error)) => error,
                _ => self.served.lanes_ended(),
            }
        }
    }
}

/// As [`Leg::last_words`], of both.
async fn last_words(old: &mut Leg, new: &mut Leg) {
    let read = async {
        if !old.has_read {
            old.reading.as_mut().await?;
        }
        if new.has_read { Ok(()) } else { new.reading.as_mut().await }
    };
    drop(timeout(FAREWELL, read).await);
}

/// As [`Leg::farewell`], as from one connection.
async fn farewell<S: Served>(served: &S, old: &mut Leg, new: &mut Leg, reason: &str) {
    served.outbound().finish();
    let last = async {
        if !old.has_written {
            drop(old.writing.as_mut().await);
        }
        drop(new.writing.as_mut().await);
        new.sender.send(&ControlFrame::Goodbye(Goodbye { reason: reason.to_owned() })).await?;
        if !old.has_read {
            old.reading.as_mut().await?;
        }
        if !new.has_read {
            drop(new.reading.as_mut().await);
        }
        new.connection.closed().await;
        Ok::<(), ConnectionError>(())
    };
    drop(timeout(FAREWELL, last).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_not_stalled_and_time_away_does_not_count() {
        let (start, limit) = (Instant::now(), Duration::from_secs(10));
        let mut stall = Stall::new(limit, start);
        let look = |stall: &mut Stall, at_ms: u64, moved| stall.look(start + Duration::from_millis(at_ms), moved);
        assert!(!look(&mut stall, 500, 1));
        let first = (1..100).find(|n| look(&mut stall, 500 + n * 500, 1));
        assert_eq!(first, Some(20), "ten seconds in which nothing moves");
        assert!(!look(&mut stall, 60_000, 2), "it does");
        assert!(!look(&mut stall, 3_600_000, 2), "nobody could look");
        let first = (1..100).find(|n| look(&mut stall, 3_600_000 + n * 500, 2));
        assert_eq!(first, Some(18));
    }
}
