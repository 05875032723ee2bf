//! Series that a source told of in the pass before and tells of no more have ended.

use hashbrown::HashMap;

use super::Readings;

/// What a source told of in its latest pass.
#[derive(Debug, Default)]
pub struct Living {
    series: HashMap<Box<str>, Told>,
    pass: u64,
}

#[derive(Debug)]
struct Told {
    metric: Box<str>,
    labels: Box<[(Box<str>, Box<str>)]>,
    pass: u64,
}

impl Living {
    /// Adds to a pass the end of each series that was told of before and is not now.
    pub fn settle(&mut self, readings: &mut Readings) {
        self.pass += 1;
        let pass = self.pass;
        let mut key = String::new();
        readings.each(|metric, labels| {
            key.clear();
            for text in std::iter::once(metric).chain(labels.iter().flat_map(|&(name, value)| [name, value])) {
                key.push_str(text);
                key.push('\u{1f}');
            }
            match self.series.get_mut(key.as_str()) {
                Some(told) => told.pass = pass,
                None => {
                    let labels = labels.iter().map(|&(name, value)| (name.into(), value.into())).collect();
                    self.series.insert(key.as_str().into(), Told { metric: metric.into(), labels, pass });
                }
            }
        });
        self.series.retain(|_, told| {
            if told.pass < pass {
                let labels: Vec<(&str, &str)> = told.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
                readings.end(&told.metric, &labels);
            }
            told.pass == pass
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::About;

    #[test]
    fn what_is_told_no_more_ends_once() {
        let mut living = Living::default();
        let mut pass = |told: &[&str]| {
            let mut readings = Readings::default();
            for host in told {
                readings.put("up", &[("host", host)], About::default(), 1.0);
            }
            living.settle(&mut readings);
            readings.lines()
        };
        assert_eq!(pass(&["a", "b"]), [r#"up{host="a"} 1"#, r#"up{host="b"} 1"#]);
        assert_eq!(pass(&["b"]), [r#"up{host="b"} 1"#, r#"up{host="a"} ended"#]);
        assert_eq!(pass(&["b"]), [r#"up{host="b"} 1"#]);
        assert_eq!(pass(&[]), [r#"up{host="b"} ended"#]);
        assert_eq!(pass(&["a"]), [r#"up{host="a"} 1"#]);
    }
}
