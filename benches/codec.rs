//! The cost of reading a message.

use std::hint::black_box;

use axum_cloud_variables::internals::decode;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

mod messages;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, dialect, message) in messages::all() {
        assert!(decode(dialect, &message), "{name}");
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode(dialect, black_box(&message)));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
