//! Sends changes as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::StatusCode,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Site;

/// Renders at this pace, and sends the result whenever it has changed, or an event `gone` when there is
/// nothing left to render. Ends when the registry shuts down, because a graceful shutdown of the host would
/// wait for it forever.
pub(super) fn stream(
    site: Arc<Site>,
    pace: Duration,
    render: impl Fn(&Site) -> Option<String> + Send + Sync + 'static,
) -> Response {
    match site.streams.try_acquire() {
        // Returned manually, because the permit cannot borrow from the site that it is stored with.
        Ok(permit) => permit.forget(),
        Err(_) => {
            let reason = "too many of these pages are open";
            return (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
        }
    }
    let mut pace = interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let place = Place(site);
    let last = Some(String::new());
    let events =
        stream::unfold((place, render, pace, last), async |(place, render, mut pace, last)| {
            let last = last?;
            let event = next(&place.0, &render, &mut pace, &last).await?;
            let (event, last) = match event {
                Some(text) => (Event::default().data(&text), Some(text)),
                None => (Event::default().event("gone").data("gone"), None),
            };
            Some((Ok::<_, Infallible>(event), (place, render, pace, last)))
        });
    // Otherwise nginx would hold events back until its buffer is full.
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, Sse::new(events).keep_alive(KeepAlive::default())).into_response()
}

/// Returns the next change. Returns `None` when the registry shuts down.
async fn next(
    site: &Site,
    render: &impl Fn(&Site) -> Option<String>,
    pace: &mut Interval,
    last: &str,
) -> Option<Option<String>> {
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            () = site.rooms.inner().drain.begun() => return None,
        }
        match render(site) {
            Some(text) if text == last => {}
            rendered => return Some(rendered),
        }
    }
}

/// The place of one of the pages that may be open.
struct Place(Arc<Site>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.add_permits(1);
    }
}
