//! The end of a client's time. One timer for a connection, moved when it rings: to set
//! one for each request or piece would take a lock that all connections share, twice.

use std::{future::Future, io, pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep, sleep};

/// Ends what takes too long, one thing at a time.
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// One that is expected to be needed in so much time, or later.
    pub(super) fn new(after: Duration) -> Self {
        Self(Box::pin(sleep(after)))
    }

    /// What is done until the deadline, or [`io::ErrorKind::TimedOut`].
    pub(super) async fn limit<Done>(
        &mut self,
        deadline: Instant,
        work: impl Future<Output = io::Result<Done>>,
    ) -> io::Result<Done> {
        let mut work = std::pin::pin!(work);
        if self.0.deadline() > deadline {
            self.0.as_mut().reset(deadline);
        }
        loop {
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                () = self.0.as_mut() => {}
            }
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.0.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn it_rings_at_the_deadline_whatever_it_was_set_to_before() {
        let mut alarm = Alarm::new(Duration::from_secs(60));
        for milliseconds in [20, 90, 5, 40] {
            let begun = Instant::now();
            let limit = Duration::from_millis(milliseconds);
            let deadline = begun + limit;
            let ended = alarm.limit(deadline, pending::<io::Result<()>>()).await;
            assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
            assert!(begun.elapsed() >= limit, "too soon");
            assert!(begun.elapsed() < Duration::from_secs(30), "only as it was set at first");
        }
    }

    #[tokio::test]
    async fn what_is_done_is_told_even_if_it_was_too_late() {
        let mut alarm = Alarm::new(Duration::from_secs(1));
        let past = Instant::now();
        assert_eq!(alarm.limit(past, ready(Ok(7))).await.expect("done"), 7);
    }
}
