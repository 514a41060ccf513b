//! Request bodies: how much of them is held, and where they are parsed, before their requests are
//! admitted.
//!
//! Bodies that were received and not parsed yet have a memory budget of their own, and parsing has
//! a few threads of its own. Neither can be used up by large bodies: the first [`SMALL`] bytes of a
//! body need no budget, and one thread at most parses bodies that are larger.

use super::error::ApiError;
use crate::config::HttpLimits;
use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies of up to so many bytes are small. A conversation of 10,000 words is.
const SMALL: usize = 64 << 10;
/// The unit of the budget for bodies, in bytes.
const UNIT: usize = 1 << 10;

/// What requests may use before they are admitted.
pub struct Intake {
    limits: HttpLimits,
    /// Units of bodies beyond their first [`SMALL`] bytes.
    units: Arc<Semaphore>,
    /// Threads that parse.
    threads: Arc<Semaphore>,
    /// The one thread that large bodies may use.
    large: Arc<Semaphore>,
}

/// A body that was received, with its share of the budget.
pub struct Received {
    bytes: Vec<u8>,
    held: Option<OwnedSemaphorePermit>,
}

/// Whether work has lost its client.
#[derive(Debug, Clone, Default)]
pub struct Client(Arc<AtomicBool>);

/// Marks the client as gone when it is dropped.
struct Waiting(Client);

impl Intake {
    /// The budget and the threads that the limits name.
    pub fn new(limits: HttpLimits) -> Self {
        let units = (limits.bodies / UNIT).min(Semaphore::MAX_PERMITS);
        Self {
            limits,
            units: Arc::new(Semaphore::new(units)),
            threads: Arc::new(Semaphore::new(limits.parsers.max(1))),
            large: Arc::new(Semaphore::new(1)),
        }
    }

    /// The whole body of a request.
    ///
    /// # Errors
    /// A body that is too large or too slow or breaks off, or no budget for it.
    pub async fn receive(&self, body: Body) -> Result<Received, ApiError> {
        let received = tokio::time::timeout(self.limits.body_time, self.collect(body));
        received.await.unwrap_or_else(|_| Err(ApiError::too_slow()))
    }

    async fn collect(&self, mut body: Body) -> Result<Received, ApiError> {
        let mut received = Received {
            bytes: Vec::new(),
            held: None,
        };
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| ApiError::bad_request(format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if let Err(error) = self.take_in(&mut received, &data) {
                drop(received);
                let _ = tokio::time::timeout(LINGER, discard(body)).await;
                return Err(error);
            }
        }
        Ok(received)
    }

    fn take_in(&self, received: &mut Received, data: &Bytes) -> Result<(), ApiError> {
        let length = received.bytes.len() + data.len();
        if length > self.limits.body {
            return Err(ApiError::too_large(self.limits.body));
        }
        let needed = length.saturating_sub(SMALL).div_ceil(UNIT);
        let held = received.held.as_ref().map_or(0, |held| held.num_permits());
        if needed > held {
            let more = u32::try_from(needed - held).unwrap_or(u32::MAX);
            let more = self.units.clone().try_acquire_many_owned(more);
            let more = more.map_err(|_| ApiError::busy())?;
            match &mut received.held {
                Some(held) => held.merge(more),
                none => *none = Some(more),
            }
        }
        received.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Does work on a body on a thread where it blocks nothing else. The work gets the bytes, and
    /// is to ask now and then whether its client is still there; a client that leaves before the
    /// work starts costs nothing.
    ///
    /// # Errors
    /// Whatever the work returns; work that does not end in time.
    pub async fn parse<T: Send + 'static>(
        &self,
        body: Received,
        work: impl FnOnce(&[u8], &Client) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let long = body.bytes.len() > SMALL;
        // The budget is held until the work has ended, whether or not somebody waits for it.
        self.on_thread(long, move |client| work(&body.bytes, client))
            .await
    }

    /// Does other work that may take long, on the thread that large bodies use.
    ///
    /// # Errors
    /// As [`Intake::parse`].
    pub async fn run_long<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Client) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.on_thread(true, work).await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        long: bool,
        work: impl FnOnce(&Client) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = tokio::time::timeout(self.limits.parse_time, self.when_free(long, work));
        done.await.unwrap_or_else(|_| Err(ApiError::busy()))
    }

    async fn when_free<T: Send + 'static>(
        &self,
        long: bool,
        work: impl FnOnce(&Client) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let ended = |_| ApiError::internal("the server is ending");
        let large = if long {
            Some(self.large.clone().acquire_owned().await.map_err(ended)?)
        } else {
            None
        };
        let thread = self.threads.clone().acquire_owned().await.map_err(ended)?;
        let client = Client::default();
        let _waiting = Waiting(client.clone());
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&client);
            drop((thread, large));
            done
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "parsing a request panicked");
            Err(ApiError::internal("the request could not be read"))
        })
    }
}

impl Client {
    /// Goes on only while the client is there.
    ///
    /// # Errors
    /// When it is gone; nobody reads the error.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(ApiError::bad_request("the client has gone"));
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// How long the rest of a body that is refused is read: whoever is still writing when the connection closes
/// gets a broken pipe instead of the answer.
const LINGER: Duration = Duration::from_secs(1);

async fn discard(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {
        // What unpacks a body never waits.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn intake() -> Intake {
        Intake::new(HttpLimits {
            body: 1 << 20,
            bodies: 1 << 20,
            parsers: 2,
            ..HttpLimits::default()
        })
    }

    async fn receive(intake: &Intake, length: usize) -> Result<Received, ApiError> {
        intake.receive(Body::from(vec![b'x'; length])).await
    }

    #[tokio::test]
    async fn large_bodies_share_a_budget_and_small_ones_need_none() {
        let intake = intake();
        let first = receive(&intake, 900 << 10).await.unwrap();
        assert!(receive(&intake, 300 << 10).await.is_err());
        let small = receive(&intake, SMALL).await.unwrap();
        assert!(small.held.is_none() && small.bytes.len() == SMALL);
        drop(first);
        assert!(receive(&intake, 300 << 10).await.is_ok());
        assert!(receive(&intake, (1 << 20) + 1).await.is_err());
    }

    #[tokio::test]
    async fn large_bodies_leave_a_thread_to_small_ones() {
        let intake = Arc::new(intake());
        let (release, held) = mpsc::channel::<()>();
        let large = receive(&intake, SMALL + 1).await.unwrap();
        let parsing = tokio::spawn({
            let intake = intake.clone();
            async move {
                intake
                    .parse(large, move |_, _| Ok(held.recv().is_ok()))
                    .await
            }
        });
        let second = receive(&intake, SMALL + 1).await.unwrap();
        let waiting = tokio::spawn({
            let intake = intake.clone();
            async move { intake.parse(second, |bytes, _| Ok(bytes.len())).await }
        });
        let small = receive(&intake, 10).await.unwrap();
        let length = intake.parse(small, |bytes, _| Ok(bytes.len())).await;
        assert!(matches!(length, Ok(10)));
        assert!(!parsing.is_finished() && !waiting.is_finished());
        release.send(()).unwrap();
        assert!(matches!(parsing.await.unwrap(), Ok(true)));
        assert!(matches!(waiting.await.unwrap(), Ok(length) if length == SMALL + 1));
    }

    #[tokio::test]
    async fn work_is_told_when_its_client_has_gone_and_panics_are_answered() {
        let intake = Arc::new(intake());
        let body = receive(&intake, 10).await.unwrap();
        let (told, gone) = mpsc::channel();
        let work = move |_: &[u8], client: &Client| -> Result<(), ApiError> {
            told.send(false).unwrap();
            while client.check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            told.send(true).unwrap();
            Ok(())
        };
        let parsing = tokio::spawn({
            let intake = intake.clone();
            async move { intake.parse(body, work).await }
        });
        let started = tokio::task::spawn_blocking(move || (gone.recv(), gone));
        let (started, gone) = started.await.unwrap();
        assert_eq!(started, Ok(false));
        parsing.abort();
        let ended = tokio::task::spawn_blocking(move || gone.recv())
            .await
            .unwrap();
        assert_eq!(ended, Ok(true));
        let body = receive(&intake, 10).await.unwrap();
        let panicked: Result<(), _> = intake.parse(body, |_, _| panic!("for the test")).await;
        assert!(panicked.is_err());
        assert_eq!(intake.threads.available_permits(), 2);
    }
}
