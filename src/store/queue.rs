//! What is handed to the writer: in its order, and with whether anybody waits for it.
//! What nobody waits for gathers for a moment, so that the disk is not asked for each.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::model::Change;

/// So long what nobody waits for gathers.
const LINGER: Duration = Duration::from_millis(5);

/// More decisions than this in one batch would make the first ones wait for the last.
const AT_ONCE: usize = 4096;

/// Between who decides and who writes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inside: Mutex<Inside>,
    /// Something is there, or somebody waits, or all has ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    decisions: Vec<Vec<Change>>,
    is_waited_for: bool,
    /// Whether the writer sleeps: to wake it is a call, also where nobody would wake.
    is_asleep: bool,
    is_closed: bool,
}

impl Queue {
    /// Hands in the changes of a decision, and whether somebody waits for them and all
    /// before them.
    pub(super) fn push(&self, changes: Vec<Change>, is_waited_for: bool) {
        let mut inside = self.lock();
        inside.decisions.push(changes);
        let length = inside.decisions.len();
        let is_news = is_waited_for && !inside.is_waited_for;
        inside.is_waited_for |= is_waited_for;
        // In between it lingers, or works.
        if length == 1 || length == AT_ONCE || is_news {
            self.wake(inside);
        }
    }

    /// Somebody waits for all that was handed in so far.
    pub(super) fn hurry(&self) {
        let mut inside = self.lock();
        let is_news = !inside.is_waited_for && !inside.decisions.is_empty();
        if is_news {
            inside.is_waited_for = true;
            self.wake(inside);
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        let mut inside = self.lock();
        inside.is_closed = true;
        self.wake(inside);
    }

    fn wake(&self, mut inside: MutexGuard<'_, Inside>) {
        let was_asleep = std::mem::take(&mut inside.is_asleep);
        drop(inside);
        if was_asleep {
            self.changed.notify_one();
        }
    }

    /// All that is there, as soon as there is something and either somebody waits for it,
    /// or it has gathered for a moment; nothing at the end.
    pub(super) fn take(&self) -> Option<Vec<Vec<Change>>> {
        let mut inside = self.lock();
        while inside.decisions.is_empty() {
            if inside.is_closed {
                return None;
            }
            inside.is_asleep = true;
            inside = self.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + LINGER;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_enough = inside.is_waited_for
                || inside.is_closed
                || inside.decisions.len() >= AT_ONCE
                || left.is_zero();
            if is_enough {
                break;
            }
            inside.is_asleep = true;
            let waited = self.changed.wait_timeout(inside, left);
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        // Nobody has woken it whose time was over.
        inside.is_asleep = false;
        let rest = inside.decisions.len().min(AT_ONCE);
        let later = inside.decisions.split_off(rest);
        let taken = std::mem::replace(&mut inside.decisions, later);
        // Of what is left somebody may still wait.
        inside.is_waited_for &= !inside.decisions.is_empty();
        Some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing in it is left half done by a panic.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Mac;

    fn change(last: u8) -> Vec<Change> {
        vec![Change::Forgotten(Mac::new([2, 0, 0, 0, 0, last]))]
    }

    #[test]
    fn what_is_handed_in_comes_out_in_its_order_and_all_of_it() {
        let queue = Arc::new(Queue::default());
        let writer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut all = Vec::new();
                while let Some(some) = queue.take() {
                    assert!(some.len() <= AT_ONCE);
                    all.extend(some);
                }
                all
            })
        };
        let handed: Vec<_> = (0..20_000u32).map(|number| change(number.to_be_bytes()[3])).collect();
        for (number, changes) in handed.iter().enumerate() {
            queue.push(changes.clone(), false);
            if number % 1000 == 0 {
                queue.hurry();
            }
        }
        queue.close();
        assert_eq!(writer.join().expect("no panic"), handed);
    }

    #[test]
    fn what_nobody_waits_for_gathers_and_what_somebody_waits_for_goes_at_once() {
        let queue = Queue::default();
        queue.push(change(1), false);
        let begun = Instant::now();
        assert_eq!(queue.take(), Some(vec![change(1)]));
        assert!(begun.elapsed() >= LINGER);
        queue.push(change(2), false);
        queue.push(change(3), false);
        queue.hurry();
        assert!(queue.lock().is_waited_for);
        assert_eq!(queue.take(), Some(vec![change(2), change(3)]));
        assert!(!queue.lock().is_waited_for);
        queue.hurry();
        assert!(!queue.lock().is_waited_for, "nothing is there that could be waited for");
    }

    #[test]
    fn what_somebody_waits_for_wakes_the_writer_once() {
        let queue = Arc::new(Queue::default());
        let writer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.take())
        };
        while !queue.lock().is_asleep {
            std::thread::yield_now();
        }
        queue.push(change(1), true);
        assert_eq!(writer.join().expect("no panic"), Some(vec![change(1)]));
        assert!(!queue.lock().is_asleep && !queue.lock().is_waited_for);
        queue.push(change(2), true);
        assert!(queue.lock().is_waited_for, "it is not to linger for that");
        assert_eq!(queue.take(), Some(vec![change(2)]));
    }

    #[test]
    fn who_waits_for_what_was_left_is_not_forgotten() {
        let queue = Queue::default();
        (0..=AT_ONCE).for_each(|_| queue.push(change(1), false));
        queue.hurry();
        assert_eq!(queue.take().map(|some| some.len()), Some(AT_ONCE));
        assert!(queue.lock().is_waited_for);
        queue.close();
        assert_eq!(queue.take(), Some(vec![change(1)]), "the end comes behind it");
        assert_eq!(queue.take(), None);
    }
}
