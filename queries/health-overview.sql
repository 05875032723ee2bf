-- What is stored, and how the standard signals stand.
-- title: What is stored
SELECT count(*) AS series, count(DISTINCT metric) AS metrics, min(first) AS first, max(last) AS last
FROM system.series;

-- title: Percentages over the last hour of data
SELECT metric, count(*) AS samples, min(value) AS lowest, avg(value) AS mean,
       approx_percentile_cont(value, 0.95) AS p95, max(value) AS highest
FROM metrics
WHERE metric LIKE '%percent%'
  AND time > (SELECT max(last) FROM system.series WHERE metric LIKE '%percent%') - INTERVAL '1 hour'
GROUP BY metric
ORDER BY highest DESC, metric
LIMIT 20;

-- title: Anomalies an hour
SELECT date_trunc('hour', time) AS hour, count(*) AS anomalies, count(DISTINCT series) AS series,
       max(abs(score)) AS highest_score
FROM anomalies
GROUP BY 1
ORDER BY 1 DESC
LIMIT 24;
