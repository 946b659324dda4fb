-- wrk's load: one sentence a request, one after the other out of a file.
--   wrk -t1 -c32 -d10s --latency -s bench/load.lua http://127.0.0.1:8080/embed -- tests/data/sentences.txt
-- Its last line is one JSON object: what bench/servers.py reads.
local sentences, turn = {}, 0

local function quoted(text)
  local escaped = text:gsub('[%c\\"]', function(c)
    return string.format('\\u%04x', c:byte())
  end)
  return '"' .. escaped .. '"'
end

function init(arguments)
  for line in io.lines(arguments[1]) do
    sentences[#sentences + 1] = '{"inputs":' .. quoted(line) .. '}'
  end
end

function request()
  turn = turn % #sentences + 1
  return wrk.format('POST', nil, {['Content-Type'] = 'application/json'}, sentences[turn])
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.3f,"p50_ms":%.2f,"p99_ms":%.2f,"failed":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
