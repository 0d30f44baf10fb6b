//! An answer that must not leave before what it promises is on disk: it can be
//! seen only then.

use tokio::sync::watch;

use super::{Progress, Unwritable};

/// What was decided at once.
#[derive(Debug)]
pub enum Decided<Answer> {
    /// The answer, which promises nothing that is not on disk.
    Now(Answer),
    /// The answer is kept until its promise is on disk.
    Promised(Promised<Answer>),
}

/// An answer that cannot be seen yet.
#[derive(Debug)]
pub struct Promised<Answer> {
    answer: Answer,
    /// The number of the decision that must be on disk.
    number: u64,
}

/// How far the writer has come, for who keeps many answers.
#[derive(Debug)]
pub struct Written(watch::Receiver<Progress>);

/// All that was on disk at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoFar(u64);

impl<Answer> Promised<Answer> {
    pub(super) const fn new(answer: Answer, number: u64) -> Self {
        Self { answer, number }
    }

    /// The answer, if what it promises was on disk; else it is kept on.
    ///
    /// # Errors
    ///
    /// The same value, if it has still to be kept.
    pub fn open(self, so_far: SoFar) -> Result<Answer, Self> {
        if self.number <= so_far.0 { Ok(self.answer) } else { Err(self) }
    }

    /// The same promise of another answer, which is made of this one without showing it.
    pub fn with<Other>(self, other: Other) -> Promised<(Answer, Other)> {
        Promised { answer: (self.answer, other), number: self.number }
    }
}

impl Written {
    pub(super) const fn new(progress: watch::Receiver<Progress>) -> Self {
        Self(progress)
    }

    /// What is on disk now.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] if the disk has refused: no promise will be kept any more.
    pub fn so_far(&mut self) -> Result<SoFar, Unwritable> {
        match &*self.0.borrow_and_update() {
            Progress::Written(written) => Ok(SoFar(*written)),
            Progress::Failed(reason) => Err(reason.clone()),
        }
    }

    /// Waits until more is on disk than at the last look.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] if the store was closed.
    pub async fn more(&mut self) -> Result<(), Unwritable> {
        self.0.changed().await.map_err(|_| Unwritable("the store is closed".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promised_answer_is_seen_when_its_own_decision_is_on_disk_and_not_before() {
        let promised = Promised::new("yes", 7).with("to you");
        let promised = promised.open(SoFar(6)).expect_err("6 is before 7");
        assert_eq!(promised.open(SoFar(7)).ok(), Some(("yes", "to you")));
        assert!(Promised::new("yes", 7).open(SoFar(8)).is_ok());
    }

    #[tokio::test]
    async fn who_keeps_answers_hears_of_each_step_and_of_the_end() {
        let (report, progress) = watch::channel(Progress::Written(0));
        let mut written = Written::new(progress);
        assert_eq!(written.so_far().ok(), Some(SoFar(0)));
        report.send_replace(Progress::Written(3));
        written.more().await.expect("a step");
        assert_eq!(written.so_far().ok(), Some(SoFar(3)));
        report.send_replace(Progress::Failed(Unwritable("full".into())));
        written.more().await.expect("a step");
        assert!(written.so_far().expect_err("it has failed").to_string().contains("full"));
        drop(report);
        written.more().await.expect_err("nothing more will come");
    }
}
