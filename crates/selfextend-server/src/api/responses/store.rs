//! Responses that are kept, so that a request can continue them: in memory, within a bound.

use super::turns::Turn;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A response, with the conversation that led to it.
#[derive(Debug)]
pub struct Kept {
    previous: Option<Arc<Kept>>,
    /// The turns of its request, and its own.
    turns: Vec<Turn>,
    /// The response as it was told.
    pub body: Value,
    bytes: usize,
    /// The bytes of all that are kept.
    all: Arc<AtomicUsize>,
}

impl Kept {
    /// The turns of the whole conversation.
    pub fn turns(&self) -> Vec<Turn> {
        let mut links = vec![self];
        while let Some(previous) = links.last().and_then(|kept| kept.previous.as_deref()) {
            links.push(previous);
        }
        let turns = links.into_iter().rev().flat_map(|kept| &kept.turns);
        turns.cloned().collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        // One by one: a long conversation must not be dropped by recursion.
        let mut previous = self.previous.take();
        while let Some(link) = previous {
            previous = Arc::into_inner(link).and_then(|mut link| link.previous.take());
        }
    }
}

/// What is kept, by the responses' ids.
#[derive(Debug)]
pub struct Store {
    most: usize,
    most_bytes: usize,
    all: Arc<AtomicUsize>,
    kept: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_id: HashMap<String, Arc<Kept>>,
    /// From the oldest to the newest; may name some that were deleted.
    order: VecDeque<String>,
}

impl Store {
    /// A store of at most so many responses and bytes.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            most,
            most_bytes,
            all: Arc::default(),
            kept: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A response that is kept.
    pub fn get(&self, id: &str) -> Option<Arc<Kept>> {
        self.lock().by_id.get(id).cloned()
    }

    /// Forgets a response; whether there was one. Those that continue it remember it.
    pub fn remove(&self, id: &str) -> bool {
        self.lock().by_id.remove(id).is_some()
    }

    /// Keeps a response; the oldest go where there are too many.
    pub fn put(&self, id: &str, previous: Option<Arc<Kept>>, turns: Vec<Turn>, body: Value) {
        let written = body.to_string().len();
        let bytes = written + turns.iter().map(Turn::bytes).sum::<usize>();
        if self.most == 0 || bytes > self.most_bytes {
            return;
        }
        self.all.fetch_add(bytes, Ordering::Relaxed);
        let kept = Kept {
            previous,
            turns,
            body,
            bytes,
            all: self.all.clone(),
        };
        let mut entries = self.lock();
        entries.by_id.insert(id.to_owned(), Arc::new(kept));
        entries.order.push_back(id.to_owned());
        while entries.by_id.len() > self.most
            || self.all.load(Ordering::Relaxed) > self.most_bytes
            || entries.order.len() > 2 * self.most
        {
            let Some(oldest) = entries.order.pop_front() else {
                break;
            };
            // Its bytes count until no response that continues it is left.
            drop(entries.by_id.remove(&oldest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(text: &str) -> Turn {
        Turn::Message {
            role: "user".to_owned(),
            text: text.to_owned(),
        }
    }

    fn texts(kept: &Kept) -> Vec<String> {
        let text = |turn| match turn {
            Turn::Message { text, .. } => text,
            other => format!("{other:?}"),
        };
        kept.turns().into_iter().map(text).collect()
    }

    #[test]
    fn conversations_are_chains_and_the_oldest_go() {
        let store = Store::new(2, 1 << 20);
        store.put("a", None, vec![turn("1")], Value::Null);
        store.put("b", store.get("a"), vec![turn("2")], Value::Null);
        assert_eq!(texts(&store.get("b").unwrap()), ["1", "2"]);
        store.put("c", store.get("b"), vec![turn("3")], Value::Null);
        assert!(store.get("a").is_none());
        assert_eq!(texts(&store.get("c").unwrap()), ["1", "2", "3"]);
        assert!(store.remove("c") && !store.remove("c"));
        assert!(store.get("c").is_none());
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let store = Store::new(100, 1000);
        for n in 0..50 {
            let previous = store.get(&(n - 1).to_string());
            store.put(
                &n.to_string(),
                previous,
                vec![turn(&"x".repeat(90))],
                Value::Null,
            );
            assert!(store.all.load(Ordering::Relaxed) <= 1000, "{n}");
        }
        store.put("large", None, vec![turn(&"x".repeat(2000))], Value::Null);
        assert!(store.get("large").is_none());
    }

    #[test]
    fn a_long_conversation_is_dropped_without_recursion() {
        let store = Store::new(usize::MAX / 4, usize::MAX);
        for n in 0..100_000 {
            let previous = store.get(&(n - 1).to_string());
            store.remove(&(n - 1).to_string());
            store.put(&n.to_string(), previous, vec![turn("x")], Value::Null);
        }
        store.remove("99999");
        assert_eq!(store.all.load(Ordering::Relaxed), 0);
    }
}
