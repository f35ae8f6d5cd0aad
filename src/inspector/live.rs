//! What changes, as server-sent events.

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

/// What this renders, looked at at this pace, whenever it is another; an event `gone` where there is
/// nothing any more. Ends when the registry shuts down, as no graceful shutdown of the host's would.
pub(super) fn stream(
    site: Arc<Site>,
    pace: Duration,
    render: impl Fn(&Site) -> Option<String> + Send + Sync + 'static,
) -> Response {
    match site.streams.try_acquire() {
        // Given back by hand, as it cannot borrow from the site that goes with it.
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
    // Else nginx would keep them until it has a buffer full.
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, Sse::new(events).keep_alive(KeepAlive::default())).into_response()
}

/// `None` where there are no more.
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

/// Of one of the pages that may be open.
struct Place(Arc<Site>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.add_permits(1);
    }
}
