//! Histories made up of days, weeks, trends and seeded noise, and what is to be said of them.

use super::chance::Chance;
use super::{Direction, Eta, Exception, Forecast, ForecastError, ForecastOptions, forecast, time_to_limit};

fn day(t: usize) -> f64 {
    100.0 + 30.0 * (t as f64 / 24.0 * std::f64::consts::TAU).sin() + ((t * 7919) % 17) as f64 * 0.3
}

fn with(change: impl Fn(&mut ForecastOptions)) -> ForecastOptions {
    let mut options = ForecastOptions::default();
    change(&mut options);
    options
}

#[test]
fn a_daily_series_goes_on_daily_across_gaps() {
    let truth: Vec<f64> = (0..400).map(day).collect();
    let mut history = truth[..376].to_vec();
    history[100..130].fill(f64::NAN);
    history[370] = f64::INFINITY;
    let found = forecast(&history, 24, &ForecastOptions::default()).unwrap();
    assert_eq!(found.seasons, [24]);
    assert!((found.share_imputed - 31.0 / 376.0).abs() < 1e-12);
    for (step, &came) in truth[376..].iter().enumerate() {
        assert!((found.mean[step] - came).abs() < 6.0, "{step}: {} for {came}", found.mean[step]);
        assert!(found.upper[step] - found.lower[step] < 20.0, "{step}: too wide to be of use");
    }
}

#[test]
fn a_filling_disk_goes_on_filling() {
    let history: Vec<f64> = (0..300).map(|t| 50.0 + 0.1 * f64::from(t) + f64::from((t * 7919) % 17) * 0.01).collect();
    let found = forecast(&history, 100, &ForecastOptions::default()).unwrap();
    assert!((found.mean[99] - 90.0).abs() < 3.0, "{} {:?}", found.model, found.mean[99]);
}

#[test]
fn any_history_gives_an_ordered_finite_forecast_or_says_why_not() {
    let nan = f64::NAN;
    let step = |at: usize| move |t: usize| if t < at { 1.0 } else { 1e6 };
    let made = |count: usize, of: &dyn Fn(usize) -> f64| (0..count).map(of).collect::<Vec<f64>>();
    let mut table: Vec<(&str, Vec<f64>)> = vec![
        ("nothing", vec![]),
        ("no value", vec![nan; 50]),
        ("a constant", vec![3.0; 100]),
        ("huge", made(100, &|t| if t % 2 == 0 { f64::MAX } else { -f64::MAX })),
        ("tiny", made(100, &|t| (t % 5) as f64 * f64::MIN_POSITIVE)),
        ("subnormal", made(100, &|t| (t % 5) as f64 * 5e-324)),
        ("one spike", made(200, &|t| if t == 150 { 1e12 } else { 0.0 })),
        ("spikes", made(500, &|t| if t % 97 == 0 { 1e300 } else { t as f64 })),
        ("a late spike", made(200, &|t| if t == 199 { 1e12 } else { 1.0 })),
        ("a step", made(300, &step(290))),
        ("an early step", made(300, &step(5))),
        ("growth", made(300, &|t| 1.5_f64.powi(t as i32))),
        ("mostly gaps", made(300, &|t| if t % 50 == 0 { t as f64 } else { nan })),
        ("ends in a gap", made(300, &|t| if t < 150 { day(t) } else { nan })),
        ("alternating", made(101, &|t| (t % 2) as f64)),
        ("infinite", vec![f64::INFINITY; 30]),
        ("two levels of rounding", made(60, &|t| 1e15 + (t % 3) as f64 * 0.125)),
    ];
    table.extend((1..30).map(|count| ("short", made(count, &day))));
    for (name, history) in table {
        for (horizon, seasons) in [(0, None), (1, None), (48, None), (300, Some(vec![24, 2, 7])), (5, Some(vec![0, 1]))]
        {
            let options = with(|options| options.seasons.clone_from(&seasons));
            match forecast(&history, horizon, &options) {
                Ok(found) => assert_ordered(&found, horizon, name),
                Err(_) => assert!(history.len() < 4 || history.iter().all(|v| !v.is_finite()), "{name}"),
            }
        }
    }
}

fn assert_ordered(found: &Forecast, horizon: usize, name: &str) {
    assert_eq!([found.mean.len(), found.lower.len(), found.upper.len()], [horizon; 3], "{name}");
    for step in 0..horizon {
        let (lower, mean, upper) = (found.lower[step], found.mean[step], found.upper[step]);
        assert!(lower.is_finite() && upper.is_finite(), "{name}: {found:?}");
        assert!(lower <= mean && mean <= upper, "{name}: {lower} {mean} {upper} at {step}");
    }
}

#[test]
fn constants_stay_constant() {
    let found = forecast(&[7.5; 60], 3, &ForecastOptions::default()).unwrap();
    assert_eq!((found.model, found.lower, found.upper), ("constant", vec![7.5; 3], vec![7.5; 3]));
}

#[test]
fn what_cannot_be_negative_is_not_forecast_so() {
    let falling: Vec<f64> = (0..60).map(|t| 60.0 - f64::from(t)).collect();
    let lowest = |options: &ForecastOptions| {
        let found = forecast(&falling, 30, options).unwrap();
        found.lower.iter().copied().fold(f64::INFINITY, f64::min)
    };
    assert!(lowest(&ForecastOptions::default()) < -10.0);
    assert_eq!(lowest(&with(|options| options.non_negative = true)), 0.0);
}

#[test]
fn errors_say_what_is_missing() {
    let nan = f64::NAN;
    let table: [(&[f64], ForecastError); 3] = [
        (&[nan, nan], ForecastError::NoValues),
        (&[1.0, 2.0, 3.0], ForecastError::TooShort { needs: 4, has: 3 }),
        (&[nan, nan, nan, 2.0, 3.0], ForecastError::TooShort { needs: 4, has: 2 }),
    ];
    for (history, expected) in table {
        assert_eq!(forecast(history, 5, &ForecastOptions::default()), Err(expected), "{history:?}");
    }
}

#[test]
fn a_higher_level_gives_wider_intervals() {
    let history: Vec<f64> = (0..300).map(day).collect();
    let width = |level| {
        let found = forecast(&history, 12, &with(|options| options.level = level)).unwrap();
        found.upper[5] - found.lower[5]
    };
    assert!(width(0.5) < width(0.8) && width(0.8) < width(0.95));
}

/// Normal noise of deviation 1, the same for the same seed.
fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut chance = Chance::seeded(seed);
    (0..count).map(|_| chance.normals()[0]).collect()
}

#[test]
fn days_within_weeks_are_forecast() {
    let truth = |t: usize| {
        let weekend = if t % 168 < 120 { 0.0 } else { -25.0 };
        100.0 + weekend + 20.0 * (t as f64 / 24.0 * std::f64::consts::TAU).sin()
    };
    let history: Vec<f64> = noise(1, 700).iter().enumerate().map(|(t, noise)| truth(t) + noise).collect();
    let found = forecast(&history, 168, &ForecastOptions::default()).unwrap();
    assert_eq!(found.seasons, [24, 168]);
    let off: f64 = (0..168).map(|step| (found.mean[step] - truth(700 + step)).abs() / 168.0).sum();
    assert!(off < 1.0, "{off}");
}

#[test]
fn as_much_comes_within_the_interval_as_it_says() {
    type Kind = (&'static str, fn(&[f64], usize) -> f64);
    let kinds: [Kind; 4] = [
        ("noise", |noise, at| noise[at]),
        ("a day", |noise, at| 5.0 * (at as f64 / 24.0 * std::f64::consts::TAU).sin() + noise[at]),
        ("a walk", |noise, at| noise[..=at].iter().sum()),
        ("a slope", |noise, at| at as f64 * 0.05 + noise[at]),
    ];
    for (name, of) in kinds {
        for level in [0.8, 0.95] {
            let mut held = 0;
            for seed in 0..12 {
                let noise = noise(seed, 372);
                let whole: Vec<f64> = (0..372).map(|at| of(&noise, at)).collect();
                let options = with(|options| options.level = level);
                let found = forecast(&whole[..348], 24, &options).unwrap();
                held += (0..24).filter(|&at| (found.lower[at]..=found.upper[at]).contains(&whole[348 + at])).count();
            }
            let share = f64::from(held as u32) / f64::from(12 * 24);
            assert!((level - 0.1..=1.0).contains(&share), "{name}: {share} for {level}");
        }
    }
}

#[test]
fn quantiles_rise_from_the_lower_bound_to_the_upper() {
    let history: Vec<f64> = (0..300).map(day).collect();
    let found = forecast(&history, 30, &ForecastOptions::default()).unwrap();
    let shares = [0.0, 0.025, 0.1, 0.5, 0.9, 0.975, 1.0];
    let lines: Vec<Vec<f64>> = shares.iter().map(|&share| found.quantile(share)).collect();
    assert_eq!((&lines[1], &lines[3], &lines[5]), (&found.lower, &found.mean, &found.upper));
    for step in 0..30 {
        assert!(lines.is_sorted_by(|a, b| a[step] <= b[step]), "{step}");
    }
}

#[test]
fn what_has_a_most_stays_below_it() {
    let percent: Vec<f64> = noise(3, 300).iter().map(|noise| (98.0 + 3.0 * noise).min(100.0)).collect();
    let options = with(|options| options.most = Some(100.0));
    let found = forecast(&percent, 50, &options).unwrap();
    assert!(found.upper.iter().chain(&found.mean).all(|value| *value <= 100.0));
    assert!(found.quantile(0.999).iter().all(|value| *value <= 100.0));
}

#[test]
fn the_same_question_has_the_same_answer() {
    let history: Vec<f64> = (0..400).map(day).collect();
    let asked = || forecast(&history, 48, &ForecastOptions::default()).unwrap();
    assert_eq!(asked(), asked());
    assert_eq!(time_to_limit(&asked(), 130.0, Direction::Above), time_to_limit(&asked(), 130.0, Direction::Above));
}

#[test]
fn a_filling_disk_meets_its_limit_when_it_does() {
    for seed in 0..8 {
        let noise = noise(seed, 800);
        let whole: Vec<f64> = (0..800).map(|t| 50.0 + 0.05 * t as f64 + 0.5 * noise[t]).collect();
        let truth = (500..800).find(|&t| whole[t] >= 82.0).unwrap() - 500;
        let found = forecast(&whole[..500], 300, &ForecastOptions::default()).unwrap();
        let Eta { p10: Some(early), p50: Some(likely), p90: Some(late) } =
            time_to_limit(&found, 82.0, Direction::Above)
        else {
            panic!("seed {seed}: it is met within the horizon");
        };
        assert!(early <= likely && likely <= late, "{early} {likely} {late}");
        assert!(likely.abs_diff(truth) * 5 <= truth, "seed {seed}: {likely} for {truth}");
        assert_eq!(time_to_limit(&found, 200.0, Direction::Above), Eta { p10: None, p50: None, p90: None });
    }
}

#[test]
fn what_is_at_its_limit_meets_it_at_once() {
    let history: Vec<f64> = (0..100).map(f64::from).collect();
    let found = forecast(&history, 10, &ForecastOptions::default()).unwrap();
    let now = Eta { p10: Some(0), p50: Some(0), p90: Some(0) };
    assert_eq!(time_to_limit(&found, 50.0, Direction::Above), now);
    assert_eq!(time_to_limit(&found, 200.0, Direction::Below), now);
    assert_eq!(time_to_limit(&found, f64::NAN, Direction::Above).p10, None);
}

#[test]
fn what_stays_where_it_is_seldom_seems_to_fill() {
    let warned = |seed: u64| {
        let history: Vec<f64> = noise(seed, 400).iter().map(|noise| 50.0 + 5.0 * noise).collect();
        let found = forecast(&history, 200, &ForecastOptions::default()).unwrap();
        time_to_limit(&found, 90.0, Direction::Above).p50.is_some()
    };
    assert_eq!((0..30).filter(|&seed| warned(seed)).count(), 0);
}

#[test]
fn a_holiday_is_forecast_as_a_sunday_and_teaches_nothing() {
    let truth = |at: usize| if at / 24 % 7 < 5 { 100.0 } else { 20.0 } + (at % 24) as f64;
    let mut history: Vec<f64> = (0..28 * 24).map(truth).collect();
    let plain = forecast(&history, 96, &ForecastOptions::default()).unwrap();
    // A Wednesday of the past and a Tuesday to come.
    history[16 * 24..17 * 24].fill(0.0);
    let holiday = |day: usize| Exception { steps: day * 24..(day + 1) * 24, like: Some(6 * 24) };
    let options = with(|options| options.exceptions = vec![holiday(16), holiday(29)]);
    let found = forecast(&history, 96, &options).unwrap();
    for step in 0..96 {
        let expected = if (24..48).contains(&step) { 20.0 + (step % 24) as f64 } else { plain.mean[step] };
        assert!((found.mean[step] - expected).abs() < 1.0, "{step}: {} for {expected}", found.mean[step]);
    }
}
