//! How copies of stock items, and Redis, fare.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use stockhold_core::{ItemKey, StockView};

use super::seldom::tell;
use crate::{cache::TieredCache, redis::Redis};

/// The copies of an engine, and the Redis that it shares them by.
#[derive(Clone, Debug)]
pub(crate) struct OfCache {
    pub(crate) cache: TieredCache<ItemKey, StockView>,
    pub(crate) redis: Option<Redis>,
}

impl Collector for OfCache {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Reads that a copy might have answered, by who did";
        tell_each(&mut encoder, "stockhold_cache_reads", help, "origin", self.cache.reads())?;
        let Some(redis) = &self.redis else { return Ok(()) };
        let is_linked = ConstGauge::new(u64::from(self.cache.health().is_linked));
        let help = "Whether Redis tells of what other instances change.";
        tell(&mut encoder, "stockhold_cache_link_up", help, &is_linked)?;
        let is_open = ConstGauge::new(u64::from(redis.is_open()));
        let help = "Whether Redis is left alone because it has failed.";
        tell(&mut encoder, "stockhold_redis_breaker_open", help, &is_open)?;
        let troubles = redis.troubles().map(|(kind, count)| (kind.code(), count));
        let help = "What Redis did not do, by why";
        tell_each(&mut encoder, "stockhold_redis_errors", help, "kind", troubles)
    }
}

fn tell_each(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    counts: impl IntoIterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (word, count) in counts {
        ConstCounter::new(count).encode(family.encode_family(&[(label, word)])?)?;
    }
    Ok(())
}
