-- What is stored, and how the standard signals stand.
-- title: What is stored
SELECT count(*) AS series, count(DISTINCT metric) AS metrics, min(first) AS first, max(last) AS last
FROM system.series;

-- title: Machine: percentages over the whole recording
SELECT metric, coalesce(max(series), '') AS example,
       min(min) AS lowest, sum(sum) / sum(count) AS mean, max(max) AS highest
FROM rollups
WHERE metric LIKE '%percent'
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
