//! Detectors on made-up series: what they find, what they leave alone, and that they look at nothing but the past.

use super::*;

const STEP: i64 = 60_000_000_000;
const DAY: i64 = 1440;

/// Numbers that look random, the same each time.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// About normal: mean 0, deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn judged(method: Method, values: &[f64]) -> Vec<Option<Judged>> {
    let mut detector = Detector::new(method, Z_WINDOW);
    values.iter().enumerate().map(|(at, &value)| detector.push(at as i64 * STEP, value)).collect()
}

/// Places where episodes begin.
fn alarms(method: Method, values: &[f64]) -> Vec<usize> {
    let (mut detector, mut episodes) = (Detector::new(method, Z_WINDOW), Episodes::default());
    let begins = |(at, &value): (usize, &f64)| {
        let time = at as i64 * STEP;
        let anomalous = detector.push_over(time, value, method.threshold());
        episodes.push(time, value, anomalous, detector.calm()).begins.then_some(at)
    };
    values.iter().enumerate().filter_map(begins).collect()
}

fn noise(days: i64, seed: u64) -> Vec<f64> {
    let mut noise = Noise(seed);
    (0..days * DAY).map(|_| 50.0 + noise.normal()).collect()
}

#[test]
fn a_shift_is_one_alarm_and_noise_is_none() {
    for method in [Method::Auto, Method::Robust, Method::Ewma] {
        let mut values = noise(4, 7);
        assert_eq!(alarms(method, &values), Vec::<usize>::new(), "{method:?}");
        for value in &mut values[5000..5030] {
            *value += 8.0;
        }
        let found = alarms(method, &values);
        assert!(matches!(found[..], [at] if (5000..5010).contains(&at)), "{method:?}: {found:?}");
    }
}

#[test]
fn what_comes_every_day_is_no_alarm_and_its_absence_is() {
    let mut values = noise(10, 3);
    for (at, value) in values.iter_mut().enumerate() {
        let busy = (at as f64 / DAY as f64 * std::f64::consts::TAU).sin().max(0.0) * 30.0;
        *value += if at < 9 * 1440 { busy } else { 0.0 };
    }
    for method in [Method::Seasonal, Method::Auto] {
        let found = alarms(method, &values);
        let late: Vec<usize> = found.iter().copied().filter(|&at| at > 5 * 1440).collect();
        assert!(matches!(late[..], [at, ..] if (9 * 1440..9 * 1440 + 300).contains(&at)), "{method:?}: {found:?}");
    }
    assert!(judged(Method::Seasonal, &values[..2 * 1440]).iter().all(Option::is_none), "it has seen two days");
}

#[test]
fn a_state_that_was_never_seen_is_found_among_those_that_are() {
    let mut noise = Noise(5);
    let mut values: Vec<f64> =
        (0..6000).map(|at| if at / 50 % 2 == 0 { 10.0 } else { 90.0 } + noise.normal()).collect();
    for value in &mut values[5000..5020] {
        *value = 50.0 + noise.normal();
    }
    let found = alarms(Method::KMeans, &values);
    assert!(found.iter().any(|at| (5000..5020).contains(at)), "{found:?}");
    assert!(found.len() <= 2, "{found:?}");
}

#[test]
fn nothing_is_said_before_enough_is_known() {
    let mut values = noise(1, 1);
    values[120] = 1e6;
    assert!(judged(Method::Auto, &values)[..160].iter().all(Option::is_none));
    let scores = judged(Method::Auto, &noise(2, 2));
    let most = scores.iter().flatten().map(|judged| judged.score).fold(0.0, f64::max);
    assert!(most <= (2.0 * DAY as f64).log10() + 0.7, "{most}");
}

#[test]
fn a_series_cut_short_has_the_same_scores() {
    let mut values = noise(3, 11);
    values[3000] = 90.0;
    for method in Method::ALL {
        let whole = judged(method, &values);
        for cut in [200, 2999, 3001] {
            assert_eq!(judged(method, &values[..cut]), whole[..cut], "{method:?} cut at {cut}");
        }
    }
}

#[test]
fn a_decoded_state_goes_on_bit_for_bit() {
    let values = noise(5, 13);
    for method in Method::ALL {
        for cut in [1, 90, 5000] {
            let mut before = Detector::new(method, Z_WINDOW);
            for (at, &value) in values[..cut].iter().enumerate() {
                before.push(at as i64 * STEP, value);
            }
            let mut bytes = Vec::new();
            before.encode(&mut bytes);
            bytes.push(42);
            let mut rest = &bytes[..];
            let after = Detector::decode(method, &mut rest).unwrap();
            assert_eq!((rest, &after), (&[42][..], &before), "{method:?} cut at {cut}");
            for short in [0, 3, bytes.len() - 2] {
                assert!(Detector::decode(method, &mut &bytes[..short]).is_none(), "{method:?}: {short} bytes");
            }
        }
    }
}

#[test]
fn series_that_stand_still_and_numbers_that_are_none_are_no_alarm() {
    let mut values = vec![5.0; 3000];
    for at in (100..3000).step_by(7) {
        values[at] = 5.0 + 1e-9;
    }
    values[2500] = f64::NAN;
    values[2600] = f64::INFINITY;
    for method in Method::ALL {
        assert_eq!(alarms(method, &values), Vec::<usize>::new(), "{method:?}");
    }
    let large: Vec<f64> = noise(2, 17).into_iter().map(|value| value * 1e300).collect();
    for judged in judged(Method::Auto, &large).into_iter().flatten() {
        assert!(judged.score.is_finite());
    }
}

#[test]
fn a_watch_over_a_series_is_small() {
    let mut detector = Detector::new(Method::Auto, Z_WINDOW);
    for (at, &value) in noise(10, 19).iter().enumerate() {
        detector.push(at as i64 * STEP, value);
    }
    assert!(detector.size() <= 1280, "{} bytes", detector.size());
    let ewma = Detector::new(Method::Ewma, Z_WINDOW);
    assert!(ewma.size() <= 704, "{} bytes", ewma.size());
}

#[test]
fn a_group_is_off_where_many_of_it_are() {
    let mut group = Group::default();
    let mut noise = Noise(23);
    let mut score = |shift: f64| group.push((0..19).map(|_| 0.8 + 0.2 * noise.uniform() + shift).collect::<Vec<f64>>());
    let usual = (0..2000).map(|_| score(0.0)).fold(0.0, f64::max);
    assert!(usual < GROUP_THRESHOLD, "{usual}");
    let off = (0..10).map(|_| score(2.0)).fold(0.0, f64::max);
    assert!(off >= GROUP_THRESHOLD, "{off}");
    assert_eq!(Group::default().push([]), 0.0);
}
