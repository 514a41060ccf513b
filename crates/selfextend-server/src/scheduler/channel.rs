//! The channel on which a request's client is told what happens: bounded, and never waited for.

use super::event::{Event, Piece};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Sends events of one client's request. Clones share the channel.
#[derive(Debug, Clone)]
pub struct EventSender {
    sender: Sender<Event>,
    /// Places for events that must arrive.
    reserve: usize,
}

/// A channel that keeps `unread` pieces of text, and beside them `reserve` events that must arrive:
/// admissions, ends and failures.
pub fn channel(unread: usize, reserve: usize) -> (EventSender, Receiver<Event>) {
    let places = unread.max(1).saturating_add(reserve);
    let (sender, receiver) = mpsc::channel(places.min(Semaphore::MAX_PERMITS));
    (EventSender { sender, reserve }, receiver)
}

impl EventSender {
    /// Whether the client has gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends an event that the reserve has room for. It is dropped where the client has gone.
    pub fn send(&self, event: Event) {
        let _ = self.sender.try_send(event);
    }

    /// Sends a piece of text. False where too many are unread already.
    #[must_use = "the client has missed a piece"]
    pub fn send_text(&self, piece: Piece) -> bool {
        if self.sender.capacity() <= self.reserve {
            return self.is_closed();
        }
        self.send(Event::Text(piece));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Failure;

    fn piece() -> Piece {
        Piece {
            choice: 0,
            text: "x".into(),
            tokens: 1,
            logprob: None,
        }
    }

    #[test]
    fn text_is_bounded_and_the_end_still_arrives() {
        let (sender, mut receiver) = channel(3, 1);
        assert!((0..3).all(|_| sender.send_text(piece())));
        assert!(!sender.send_text(piece()));
        sender.send(Event::Failed(Failure::SlowReader));
        for _ in 0..3 {
            assert!(matches!(receiver.try_recv(), Ok(Event::Text(_))));
        }
        assert!(matches!(receiver.try_recv(), Ok(Event::Failed(_))));
        assert!(sender.send_text(piece()));
        drop(receiver);
        assert!(sender.is_closed() && sender.send_text(piece()));
    }
}
