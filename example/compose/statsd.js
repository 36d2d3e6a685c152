// statsd, as the dashboard for Graphite expects it: names below stats.counters, stats.gauges and stats.timers.
{
  port: 8125,
  servers: [{ server: "./servers/udp", address: "0.0.0.0", port: 8125 }],
  flushInterval: 10000,
  graphiteHost: "127.0.0.1",
  graphitePort: 2003,
  graphite: { legacyNamespace: false }
}
