-- Part of scripts: `now`, in microseconds since 1970.
--
-- ARGV[1]: the time, or '' for the server's own clock.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
