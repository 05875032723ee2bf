//! A HorizontalPodAutoscaler of Kubernetes (`autoscaling/v2`), as YAML and JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::replay::{Pace, Rules};
use super::resource::{Autoscale, Resource};

/// Longest name of a label or an object that is one (RFC 1123).
const NAME_MAX: usize = 63;
/// Name where nothing of what was written can be one.
const NAMELESS: &str = "workload";

/// What is scaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

impl TargetRef {
    /// A Deployment, whose name is made a valid one.
    pub fn deployment(name: &str) -> Self {
        TargetRef { api_version: "apps/v1".to_owned(), kind: "Deployment".to_owned(), name: object_name(name) }
    }
}

/// One resource that it is scaled by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaled<'a> {
    pub resource: &'a Resource,
    pub rules: Rules,
    /// The metric itself, where that of the resource is a pattern; empty for that of the resource.
    pub metric: &'a str,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaler {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: AutoscalerSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct AutoscalerSpec {
    scale_target_ref: TargetRef,
    min_replicas: u32,
    max_replicas: u32,
    metrics: Vec<Metric>,
    behavior: Behavior,
}

/// One of the three is there, as `type` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Metric {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<OfResource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<OfMetric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<OfMetric>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct OfResource {
    name: &'static str,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct OfMetric {
    metric: MetricName,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct MetricName {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_utilization: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    average_value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Behavior {
    scale_up: ScalingRules,
    scale_down: ScalingRules,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScalingRules {
    stabilization_window_seconds: u32,
    select_policy: &'static str,
    policies: Vec<Policy>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    r#type: &'static str,
    value: u32,
    period_seconds: u32,
}

impl Autoscaler {
    /// Scales `target` by all of `scaled`, at the pace of the most careful: replicas come as fast as any of them needs,
    /// and go as slowly. `None` where more replicas help none of them.
    pub fn of(target: TargetRef, namespace: Option<&str>, scaled: &[Scaled<'_>]) -> Option<Self> {
        let metrics: Vec<Metric> = scaled.iter().filter_map(Metric::of).collect();
        let rules = scaled.iter().filter(|one| one.resource.autoscale.has_replicas()).map(|one| one.rules);
        let Rules { replicas_min, replicas_max, up, down, .. } = rules.reduce(most_careful)?;
        let behavior = Behavior { scale_up: ScalingRules::of(up), scale_down: ScalingRules::of(down) };
        let min_replicas = replicas_min.max(1);
        Some(Autoscaler {
            api_version: "autoscaling/v2",
            kind: "HorizontalPodAutoscaler",
            metadata: Metadata { name: target.name.clone(), namespace: namespace.map(object_name) },
            spec: AutoscalerSpec {
                scale_target_ref: target,
                min_replicas,
                max_replicas: replicas_max.max(min_replicas),
                metrics,
                behavior,
            },
        })
    }

    /// For `kubectl apply`.
    ///
    /// # Errors
    /// None that any value of it is known to cause.
    pub fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn most_careful(a: Rules, b: Rules) -> Rules {
    let up = Pace {
        window: a.up.window.min(b.up.window),
        percent: a.up.percent.max(b.up.percent),
        pods: a.up.pods.max(b.up.pods),
        period: a.up.period.min(b.up.period),
    };
    let down = Pace {
        window: a.down.window.max(b.down.window),
        percent: a.down.percent.min(b.down.percent),
        pods: a.down.pods.min(b.down.pods),
        period: a.down.period.max(b.down.period),
    };
    let (replicas_min, replicas_max) = (a.replicas_min.max(b.replicas_min), a.replicas_max.max(b.replicas_max));
    Rules { target: a.target.min(b.target), replicas_min, replicas_max, up, down }
}

impl Metric {
    fn of(scaled: &Scaled<'_>) -> Option<Self> {
        let Scaled { resource, rules, metric } = scaled;
        let none = Metric { r#type: "", resource: None, pods: None, external: None };
        let of_resource = |name| {
            let average_utilization = Some((rules.target.round() as u32).max(1));
            let target = Target { r#type: "Utilization", average_utilization, average_value: None };
            Metric { r#type: "Resource", resource: Some(OfResource { name, target }), ..none.clone() }
        };
        let of_metric = |selector| {
            let average_value = Some(quantity(resource.one() * rules.target / 100.0));
            let target = Target { r#type: "AverageValue", average_utilization: None, average_value };
            let name = if metric.is_empty() { resource.metric.replace('%', "") } else { (*metric).to_owned() };
            OfMetric { metric: MetricName { name, selector }, target }
        };
        match resource.autoscale {
            Autoscale::Cpu => Some(of_resource("cpu")),
            Autoscale::Memory => Some(of_resource("memory")),
            Autoscale::Pods => Some(Metric { r#type: "Pods", pods: Some(of_metric(None)), ..none }),
            Autoscale::External => {
                let external = Some(of_metric(selector(&resource.labels)));
                Some(Metric { r#type: "External", external, ..none })
            }
            Autoscale::Never => None,
        }
    }
}

impl ScalingRules {
    fn of(pace: Pace) -> Self {
        let policy = |r#type, value| (value > 0).then_some(Policy { r#type, value, period_seconds: pace.period });
        let policies = [policy("Percent", pace.percent), policy("Pods", pace.pods)];
        ScalingRules {
            stabilization_window_seconds: pace.window,
            select_policy: "Max",
            policies: policies.into_iter().flatten().collect(),
        }
    }
}

/// A quantity of Kubernetes: whole, or in thousandths where it is small; never 0.
fn quantity(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{:.0}m", (value * 1000.0).max(1.0))
    }
}

/// Of labels as in `host=a,region=eu`, those that Kubernetes takes.
fn selector(labels: &str) -> Option<Selector> {
    let pairs = labels.split(',').filter_map(|label| label.split_once('='));
    let pairs = pairs
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(name, value)| is_label(name) && is_label(value));
    let match_labels: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (!match_labels.is_empty()).then_some(Selector { match_labels })
}

/// Letters, digits, `-`, `_` and `.`, the first and last of them letters or digits.
fn is_label(text: &str) -> bool {
    let alphanumeric = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let inner = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    alphanumeric(text.chars().next())
        && alphanumeric(text.chars().next_back())
        && text.len() <= NAME_MAX
        && text.chars().all(inner)
}

/// `text` as a name of RFC 1123: small letters, digits and `-`, the first and last no `-`, at most 63 of them.
pub fn object_name(text: &str) -> String {
    let letters = text.chars().map(|letter| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '-',
    });
    let short: String = letters.skip_while(|&letter| letter == '-').take(NAME_MAX).collect();
    let name = short.trim_end_matches('-');
    if name.is_empty() { NAMELESS.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::resource::cpu;
    use super::*;

    fn scaled(resource: &Resource) -> Scaled<'_> {
        Scaled { resource, rules: Rules::of_kubernetes(20), metric: "http_requests_per_second" }
    }

    #[test]
    fn names_are_those_of_rfc_1123() {
        let table = [
            ("web", "web"),
            ("Web_Shop.v2", "web-shop-v2"),
            ("--a--", "a"),
            ("", "workload"),
            ("%_%", "workload"),
            ("über", "ber"),
        ];
        for (text, expected) in table {
            assert_eq!(object_name(text), expected, "{text}");
        }
        assert_eq!(object_name(&"x".repeat(100)).len(), 63);
        assert_eq!(object_name(&format!("{}-b", "x".repeat(62))), "x".repeat(62));
    }

    #[test]
    fn quantities_are_whole_or_thousandths() {
        for (value, expected) in
            [(800.0, "800"), (1234.5, "1234"), (0.8, "800m"), (2.0, "2"), (1e-9, "1m"), (1e9, "1000000000")]
        {
            assert_eq!(quantity(value), expected);
        }
    }

    #[test]
    fn the_manifest_is_what_kubernetes_reads() {
        let external =
            Resource { autoscale: Autoscale::External, capacity: Some(500.0), labels: "queue=mail, x".into(), ..cpu() };
        let cpu = cpu();
        let of = [scaled(&cpu), scaled(&external)];
        let yaml = Autoscaler::of(TargetRef::deployment("web"), Some("shop"), &of).unwrap().yaml().unwrap();
        let wanted = "\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: web
  namespace: shop
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: web
  minReplicas: 1
  maxReplicas: 20
  metrics:
  - type: Resource
    resource:
      name: cpu
      target:
        type: Utilization
        averageUtilization: 80
  - type: External
    external:
      metric:
        name: http_requests_per_second
        selector:
          matchLabels:
            queue: mail
      target:
        type: AverageValue
        averageValue: \"400\"
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 0
      selectPolicy: Max
      policies:
      - type: Percent
        value: 100
        periodSeconds: 15
      - type: Pods
        value: 4
        periodSeconds: 15
    scaleDown:
      stabilizationWindowSeconds: 300
      selectPolicy: Max
      policies:
      - type: Percent
        value: 100
        periodSeconds: 15
";
        assert_eq!(yaml, wanted);
    }

    #[test]
    fn what_has_no_replicas_is_left_out() {
        let disk = Resource { autoscale: Autoscale::Never, ..cpu() };
        assert_eq!(Autoscaler::of(TargetRef::deployment("web"), None, &[scaled(&disk)]), None);
        let both = Autoscaler::of(TargetRef::deployment("web"), None, &[scaled(&disk), scaled(&cpu())]).unwrap();
        assert_eq!(both.json()["spec"]["metrics"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn several_go_at_the_pace_of_the_most_careful() {
        let pace = |window, percent| Pace { window, percent, pods: 1, period: 60 };
        let rules = |min, max, up, down| Rules { target: 70.0, replicas_min: min, replicas_max: max, up, down };
        let a = rules(2, 9, pace(60, 50), pace(300, 50));
        let b = rules(3, 8, pace(0, 100), pace(900, 20));
        let both = most_careful(a, b);
        assert_eq!(both, rules(3, 9, pace(0, 100), pace(900, 20)));
    }
}
