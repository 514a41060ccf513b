//! Sockets, connections, and an orderly end.

use crate::api::{self, App, LocalAddress};
use crate::config::{DiskCacheConfig, ServerConfig};
use crate::error::ServerError;
use crate::ladder::{Ladder, Rung};
use crate::prefix::{Disk, PrefixCache};
use crate::recorder;
use crate::scheduler::{Scheduler, full_context_bytes};
use crate::write_deadline::WriteDeadline;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use selfextend::chat_template::ChatTemplate;
use selfextend::{Session, TextModel};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
}

impl Server {
    /// Starts the scheduler and listens; connections are served by [`Server::run`].
    ///
    /// # Errors
    /// [`ServerError`] when the address is taken, the memory budget holds no full context, or guesses
    /// could change the answers on the model's device.
    pub async fn bind(
        config: ServerConfig,
        text: Arc<TextModel>,
        ladder: Ladder,
    ) -> Result<Self, ServerError> {
        let metrics = recorder::install()?;
        recorder::describe(&api::ROUTES);
        if let Some(fault) = text.template.as_ref().and_then(ChatTemplate::fault) {
            tracing::warn!(%fault, "chats will be refused");
        }
        let ladder = Arc::new(ladder);
        let address = config.listen;
        let limits = config.scheduler;
        let needed = full_context_bytes(&text, config.draft.as_ref(), &ladder)?;
        if needed > limits.kv_memory {
            return Err(ServerError::KvMemory {
                context: ladder.context(),
                needed,
                budget: limits.kv_memory,
            });
        }
        if config.speculate || config.draft.is_some() {
            text.model.check_exact_steps()?;
        }
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ServerError::Listen { address, source })?;
        let mut prefixes = PrefixCache::new(ladder.rungs().len());
        if let Some(settings) = &config.disk {
            load_prefixes(settings, &text, &ladder, limits.kv_memory, &mut prefixes)?;
        }
        let draft = config.draft.clone();
        let scheduler = Scheduler::start(text.clone(), draft, ladder.clone(), limits, prefixes)?;
        metrics::gauge!("selfextend_kv_budget_bytes").set(limits.kv_memory as f64);
        let app = App::new(config, text, ladder, scheduler, metrics)?;
        let app = Arc::new(app);
        Ok(Self { listener, app })
    }

    /// The address it listens on, with the port that was chosen where 0 was asked for.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`. Then it takes no more requests, lets those that run finish within the
    /// grace period, and fails the others.
    ///
    /// # Errors
    /// [`ServerError::Scheduler`] when it ended before, by a fault of its own: every request was
    /// answered, and the process should end.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { listener, app } = self;
        let graceful = GracefulShutdown::new();
        let most = app.config.http.connections.min(Semaphore::MAX_PERMITS);
        let connections = Arc::new(Semaphore::new(most));
        let router = api::router(app.clone());
        tokio::pin!(shutdown);
        let scheduler = app.scheduler.ended();
        tokio::pin!(scheduler);
        let ended = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                () = &mut scheduler => break Err(ServerError::Scheduler),
                accepted = accept(&listener, &connections) => {
                    if let Some((stream, permit)) = accepted {
                        connect(stream, permit, &router, &app, &graceful);
                    }
                }
            }
        };
        tracing::info!("shutting down: waiting for running requests");
        app.scheduler.drain();
        let end = async {
            // Connections are closed when nothing runs any more: a request that comes on one of them until
            // then is answered.
            while app.scheduler.is_busy() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            graceful.shutdown().await;
        };
        tokio::pin!(end);
        // Who asks meanwhile is told: `/ready` says so, other requests are refused.
        let late = GracefulShutdown::new();
        let refuse = async {
            loop {
                if let Some((stream, permit)) = accept(&listener, &connections).await {
                    connect(stream, permit, &router, &app, &late);
                }
            }
        };
        let within = tokio::time::timeout(app.config.grace, &mut end);
        let ended_in_time = tokio::select! {
            ended = within => ended.is_ok(),
            () = refuse => false,
        };
        drop(listener);
        if !ended_in_time {
            tracing::warn!("the grace period is over: failing the requests that still run");
            stop(&app).await;
            // Clients that do not read their error lose their connection.
            let _ = tokio::time::timeout(Duration::from_secs(2), end).await;
        }
        // Nor do those that were refused at the last moment.
        let _ = tokio::time::timeout(Duration::from_secs(2), late.shutdown()).await;
        stop(&app).await;
        ended
    }
}

/// Loads what an earlier server left on disk, and keeps prefixes there from now on.
fn load_prefixes(
    settings: &DiskCacheConfig,
    text: &TextModel,
    ladder: &Ladder,
    room: usize,
    prefixes: &mut PrefixCache,
) -> Result<(), ServerError> {
    let disk = Disk::open(settings.clone()).map_err(|source| ServerError::CacheDir {
        dir: settings.dir.clone(),
        source,
    })?;
    let rung = |rung: &Rung| -> Result<_, ServerError> {
        let identity = text.model.block_identity(&rung.options)?;
        Ok((identity, text.model.session(rung.options.clone())?))
    };
    let rungs = ladder.rungs().iter().map(rung);
    let rungs: Vec<(String, Session)> = rungs.collect::<Result<_, _>>()?;
    prefixes.load(&disk, &rungs, room);
    tracing::info!(
        blocks = prefixes.len(),
        bytes = prefixes.bytes(),
        "prefixes from disk"
    );
    let identities = rungs.into_iter().map(|(identity, _)| identity);
    prefixes.keep_on(disk, identities.collect());
    Ok(())
}

async fn stop(app: &Arc<App>) {
    let app = app.clone();
    let stopped = tokio::task::spawn_blocking(move || app.scheduler.stop()).await;
    if let Err(error) = stopped {
        tracing::error!(%error, "cannot stop the scheduler");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Most likely out of file descriptors, of which some will be free again soon.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn connect(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: &Router,
    app: &Arc<App>,
    graceful: &GracefulShutdown,
) {
    let limits = app.config.http;
    // Tokens are small and should not wait to be sent together.
    let _ = stream.set_nodelay(true);
    let local = stream
        .local_addr()
        .map(|address| LocalAddress(address.ip()));
    let service = TowerToHyperService::new(router.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Ok(local) = local {
            request.extensions_mut().insert(local);
        }
        api::mend_path(request.uri_mut());
        service.call(request)
    });
    let stream = WriteDeadline::new(stream, limits.write_time);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.headers.max(8192))
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection");
        }
        drop(permit);
    });
}

/// Serves until SIGINT or SIGTERM; `ready` is told the address once it listens.
///
/// # Errors
/// [`ServerError`] when the server cannot start.
pub fn serve(
    config: ServerConfig,
    text: TextModel,
    ladder: Ladder,
    ready: &mut dyn FnMut(SocketAddr),
) -> Result<(), ServerError> {
    let failed = |error: std::io::Error| ServerError::Start(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(failed)?;
    let result = runtime.block_on(async {
        let server = Server::bind(config, Arc::new(text), ladder).await?;
        ready(server.address().map_err(failed)?);
        let upkeep = tokio::spawn(keep_up(server.app.metrics.clone()));
        let started = Instant::now();
        let ended = server.run(asked_to_end()).await;
        upkeep.abort();
        tracing::info!(served_s = started.elapsed().as_secs(), "ended");
        ended
    });
    // Threads that still tokenise a document are not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

async fn asked_to_end() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{ladder, tiny};
    use std::io::{Read, Write};

    /// A server whose scheduler fails answers what it has and ends with an error.
    #[test]
    fn it_ends_with_its_scheduler() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let text = tiny();
        let ladder = ladder(&text.model, 1024);
        let mut config = ServerConfig::new("tiny");
        config.listen.set_port(0);
        config.grace = Duration::from_secs(5);
        let server = runtime
            .block_on(Server::bind(config, text, ladder))
            .unwrap();
        let (app, address) = (server.app.clone(), server.address().unwrap());
        let running = runtime.spawn(server.run(std::future::pending()));
        let client = std::thread::spawn(move || {
            let body = r#"{"prompt": "the ant", "max_tokens": 900, "logit_bias": {"260": -100, "261": -100, "262": -100}}"#;
            let length = body.len();
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            write!(stream, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let begun = Instant::now();
        while app.scheduler.running() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        app.scheduler.fail_for_test();
        assert!(client.join().unwrap().starts_with("HTTP/1.1 500"));
        let ended = runtime.block_on(running).unwrap();
        assert!(matches!(ended, Err(ServerError::Scheduler)));
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
