//! One family at a time.

use intended_runtime::metrics::{BOUNDS, Times};
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;

pub type Written = Result<(), std::fmt::Error>;

pub fn counter<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, u64)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
    }
    Ok(())
}

pub fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, V)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

pub fn histogram<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, Times)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, times) in samples {
        let mut sample = family.encode_family(&labels)?;
        sample.encode_histogram::<NoLabelSet>(times.seconds, times.count(), &buckets(&times), None)?;
    }
    Ok(())
}

pub fn one_counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    family.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

pub fn one_gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: impl EncodeGaugeValue) -> Written {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

pub fn one_histogram(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, times: &Times) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    family.encode_histogram::<NoLabelSet>(times.seconds, times.count(), &buckets(times), None)
}

fn buckets(times: &Times) -> Vec<(f64, u64)> {
    BOUNDS.iter().copied().chain([f64::INFINITY]).zip(times.buckets).collect()
}
