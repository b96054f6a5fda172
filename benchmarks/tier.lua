-- wrk sends the requests of the file BODIES, one after another. With THINK (ms) each connection pauses before a request,
-- for exponentially distributed times, like many independent listeners.
local file, bodies, number = io.open(os.getenv("BODIES")), {}, 0
for line in file:lines() do bodies[#bodies + 1] = line end
local headers = {["Content-Type"] = "application/json", ["Authorization"] = os.getenv("TOKEN")}
-- Only Envoy gets a token; with one, Varnish would cache nothing.
if headers.Authorization == "" then headers.Authorization = nil end
local pause = tonumber(os.getenv("THINK") or "0")
function setup(thread) thread:set("offset", number); number = number + 1 end
function init() sent = 0; math.randomseed(7 + offset) end
function request()
  sent = sent + 1
  return wrk.format("POST", "/recommend", headers, bodies[(2 * sent + offset) % #bodies + 1])
end
if pause > 0 then
  function delay() return math.floor(-pause * math.log(1 - math.random()) + 0.5) end
end
function done(summary, latency)
  local e, ms = summary.errors, function(p) return latency:percentile(p) / 1000 end
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.stderr:write(string.format('{"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p90": %f, "p99": %f}',
    summary.requests, summary.duration / 1e6, failed, ms(50), ms(90), ms(99)))
end
