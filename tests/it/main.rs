//! Tests that share a process: behaviour over real sockets, with a file for each promise or part. Tests that
//! measure a process, or need one of their own, are beside this folder.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;

mod architecture;
mod configuration;
#[cfg(feature = "deflate")]
mod deflate;
mod dialects;
mod first_game;
mod handshake;
mod host;
mod inspector;
mod lifecycle;
mod links;
mod moderation;
mod mount;
mod p10_durable;
mod p11_brokers;
mod p11_faults;
mod p11_joins;
mod p11_killed;
mod p11_nodes;
mod p11_outages;
mod p11_redis;
mod p11_versions;
mod p1_order;
mod p2_to_all_others;
mod p5_healing;
mod p6_closes;
mod p8_isolation;
mod policy;
mod presence;
mod readiness;
mod reading;
mod relays;
mod rooms_that_differ;
mod rust_client;
mod serve;
mod stack;
#[cfg(unix)]
mod standalone;
mod stores;
mod testing;
mod text;
mod updates;
