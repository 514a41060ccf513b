//! Request bodies, within the limits of size and time.

use super::app::App;
use super::error::ApiError;
use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// The whole body of a request.
///
/// # Errors
/// A body that is too large or too slow, or breaks off.
pub async fn whole(app: &App, body: Body) -> Result<Bytes, ApiError> {
    let limits = app.config.http;
    let body = Limited::new(body, limits.body).collect();
    match tokio::time::timeout(limits.body_time, body).await {
        Err(_) => Err(ApiError::too_slow()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limits.body)),
        Ok(Err(error)) => Err(ApiError::bad_request(format!(
            "the body broke off: {error}"
        ))),
    }
}

/// Runs work that may take long on a thread where it blocks no other request.
pub async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ApiError::internal(error.to_string())))
}
