//! A relay whose type a registry does not know.

use std::{fmt, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};

use super::{Relay, RelayAnswer, RelayError, RelayMessages, RelayNews, RelayNode, RelayRequest};

/// A [`Relay`] that can be a trait object, because methods that return `impl Future` cannot be called on one.
pub(crate) trait ErasedRelay: fmt::Debug + Send + Sync {
    fn request<'a>(
        &'a self,
        room: &'a str,
        node: RelayNode<'a>,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>>;
    fn probe(&self) -> BoxFuture<'_, Result<(), RelayError>>;
    fn end(&self);
    fn lease(&self) -> Duration;
    fn timeout(&self) -> Duration;
    fn announce<'a>(&'a self, news: &'a RelayNews) -> BoxFuture<'a, Result<(), RelayError>>;
    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>>;
}

impl<R: Relay> ErasedRelay for R {
    fn request<'a>(
        &'a self,
        room: &'a str,
        node: RelayNode<'a>,
        request: &'a RelayRequest,
    ) -> BoxFuture<'a, Result<RelayAnswer, RelayError>> {
        Relay::request(self, room, node, request).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), RelayError>> {
        Relay::probe(self).boxed()
    }

    fn end(&self) {
        Relay::end(self);
    }

    fn lease(&self) -> Duration {
        Relay::lease(self)
    }

    fn timeout(&self) -> Duration {
        Relay::timeout(self)
    }

    fn announce<'a>(&'a self, news: &'a RelayNews) -> BoxFuture<'a, Result<(), RelayError>> {
        Relay::announce(self, news).boxed()
    }

    fn subscribe<'a>(&'a self, room: &'a str) -> BoxFuture<'a, Result<RelayMessages, RelayError>> {
        Relay::subscribe(self, room).boxed()
    }
}
