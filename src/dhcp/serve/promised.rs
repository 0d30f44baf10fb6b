//! Answers whose promise is not on disk yet, of all that ask at a time: they leave
//! together when it is, by one task that is woken once.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use super::room::{Asked, Room};
use crate::{
    dhcp::answer::Answer,
    store::{Promised, Unwritable, Written},
};

/// An answer, and who waits for it.
pub(super) type Kept = Promised<(Answer, Asked)>;

/// Carries out what is kept as soon as it may be seen, until the room is gone.
pub(super) async fn open_when_written(room: Arc<Room>, mut kept: UnboundedReceiver<Kept>) {
    let mut written = room.store.written();
    let mut waiting = Vec::new();
    loop {
        let is_more = if waiting.is_empty() {
            let Some(first) = kept.recv().await else { return };
            waiting.push(first);
            Ok(())
        } else {
            // What is handed in meanwhile rests on something later, or is there then.
            written.more().await
        };
        while let Ok(another) = kept.try_recv() {
            waiting.push(another);
        }
        if let Err(error) = is_more.and_then(|()| open(&room, &mut waiting, &mut written)) {
            warn!(%error, answers = waiting.len(), "not answered");
            waiting.clear();
        }
    }
}

fn open(
    room: &Arc<Room>,
    waiting: &mut Vec<Kept>,
    written: &mut Written,
) -> Result<(), Unwritable> {
    let so_far = written.so_far()?;
    let later = waiting.drain(..).filter_map(|promised| match promised.open(so_far) {
        Ok((answer, asked)) => {
            room.carry_out(answer, asked);
            None
        }
        Err(promised) => Some(promised),
    });
    *waiting = later.collect();
    Ok(())
}
