//! StatsD and DogStatsD: lines, what is held of them, and what is told of it at every flush.
//!
//! ```text
//! api.requests:1|c|@0.1|#route:/login,beta     counts up: 10 for a sample rate of 0.1
//! queue.depth:12|g   queue.depth:-2|g          stands at; a sign adds to what stood there
//! users:42|s                                   different ones in the interval
//! render:320|ms      size:1:2:3|h|c:id|T1656581400
//! _sc|db.up|2|h:web-1|#env:prod|m:gone          a service check: gauge `service_check_status`
//! _e{5,4}:title|text                           an event: counted, not kept
//! ```
//! Names become Prometheus' ([`super::names`]). At every flush each series that is held is a sample:
//!
//! | type | metric | what it says |
//! |---|---|---|
//! | `c` | the name, kind counter | the sum since the series was first seen, so that `rate` works; 0 at the flush before it came |
//! | `g` | the name | the last value; one with `\|T` is stored at its own time at once |
//! | `s` | the name | different members in the interval; beyond 4,096 estimated to about 2 % |
//! | `ms` | see `h`, in seconds (unit `seconds`) | values are divided by 1,000, as statsd_exporter does |
//! | `h`, `d` | `name_count`, `name_sum` (counters), `name{quantile="0.5"}` (0.9, 0.95, 0.99), `name_min`, `name_max` | quantiles (to 1 %), least and largest are of the interval, and there only in intervals with values |
//!
//! Each interval of `ms`, `h` and `d` is a row of the table `histograms`, too. A count with `|T` is counted when it comes: a
//! sum that only grows has no place for the past.

mod aggregate;
mod held;
mod line;
mod spread;

pub use aggregate::{Aggregate, AggregateLimits};
