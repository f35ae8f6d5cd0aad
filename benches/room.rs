//! The cost of a set in a room without sockets: order, batch, encoding, and every member's outbox.

use axum_cloud_variables::{Dialect, internals::Bench};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const VALUE: &str = "1234567890123456789012345678901234567890";

fn room(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("room");
    for members in [2, 20, 100, 1_000] {
        let mut room = Bench::new(Dialect::Spec, members, 10, 40);
        // This counts deliveries, so that the report shows the time of one.
        group.throughput(Throughput::Elements(members as u64 - 1));
        group.bench_function(format!("one set to {members}"), |bencher| {
            bencher.iter(|| {
                room.set(0, 0, VALUE);
                room.deliver()
            });
        });
    }
    let mut room = Bench::new(Dialect::Spec, 20, 10, 40);
    group.throughput(Throughput::Elements(20 * 19));
    group.bench_function("each of 20 sets", |bencher| {
        bencher.iter(|| {
            (0..20).for_each(|member| room.set(member, member % 10, VALUE));
            room.deliver()
        });
    });
    group.finish();
}

criterion_group!(benches, room);
criterion_main!(benches);
