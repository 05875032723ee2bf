//! Counts requests on their way, by route and method.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::state::App;

/// Methods that are counted by name.
const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::PUT];

/// Counts a request on its way.
pub(super) async fn count(
    State(app): State<Arc<App>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let method = METHODS.into_iter().find(|method| method == request.method());
    let from = (app.now)();
    let response = next.run(request).await;
    let status = response.status();
    let is_there = ![StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
    let (path, method) = match (&route, &method) {
        (Some(route), Some(method)) if is_there => (route.as_str(), method.as_str()),
        _ => ("other", ""),
    };
    app.requests.note(path, method, status.is_server_error(), from, (app.now)());
    response
}
