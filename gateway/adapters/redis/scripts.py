"""The scripts that decide at the Redis server, where all replicas meet.

Each runs whole or not at all, touches keys of one hash slot only, and takes
the time as its first argument: microseconds since 1970, or "" for the server's
own clock, which is the default, so that replicas need not agree on the time.

Whoever else uses the server may have put something under one of the names. What
no script has written counts as nothing there and is replaced: an error of one
key would be taken for a server that fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


class Script:
    """Lua text, and the name the server knows it by once it has seen it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class ScriptCall:
    """One run of a script."""

    __slots__ = ("arguments", "keys", "script")

    def __init__(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | float]
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments

    def known(self) -> tuple[str | int | float, ...]:
        """As a command to a server that has seen the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    def whole(self) -> tuple[str | int | float, ...]:
        """As a command to any server."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)


_NOW = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
"""

# Text under a key, and fields of a hash; nil if there is none that a script can have written.
_READ = """
local function checked(key, got)
  if type(got) == 'table' and got.err then
    redis.call('DEL', key)
    return nil
  end
  return got or nil
end
local function read(key) return checked(key, redis.pcall('GET', key)) end
local function number(text)
  local found = tonumber(text or '')
  if not found or found ~= found or found < 0 or found == math.huge then return 0 end
  return found
end
"""

# A level is stored as '<level> <time>'; units, and microseconds since 1970.
# A server whose clock stands before the stored time goes on from its own.
_LEVEL = (
    _READ
    + """
local function settled(key, per_micro)
  local level, at = string.match(read(key) or '', '^(%S+) (%S+)$')
  level, at = number(level), number(at)
  return math.max(0, level - math.max(0, now - at) * per_micro)
end
local function store(key, level, per_micro)
  redis.call('SET', key, string.format('%.17g %.0f', level, now),
             'PX', string.format('%.0f', math.ceil(level / per_micro / 1000) + 10000))
end
"""
)

# KEYS: the rate's level
# ARGV: time, units per microsecond, burst, units to take ahead, cost, cost, ...
# -> level, units taken ahead, '1' or '0' for each cost in order
TAKE_RATE = Script(
    _NOW
    + _LEVEL
    + """
local per_micro, burst, ahead = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local slack = 0.000001
local level = settled(KEYS[1], per_micro)
local answers, taken, refused = {}, 0, false
for i = 5, #ARGV do
  local cost = tonumber(ARGV[i])
  local fits = level + math.max(cost, 1) <= burst + slack or (cost > burst and level <= slack)
  if fits then
    level = level + cost
    taken = taken + cost
  else
    refused = true
  end
  answers[#answers + 1] = fits and '1' or '0'
end
if refused then
  ahead = 0
else
  ahead = math.max(0, math.min(ahead, math.floor(burst - level + slack)))
  level = level + ahead
end
if taken + ahead > 0 then store(KEYS[1], level, per_micro) end
return {string.format('%.17g', level), ahead, table.concat(answers)}
"""
)

# KEYS: the day's count
# ARGV: time, most, milliseconds to keep it, units to take ahead, cost, cost, ...
# -> count, units taken ahead, '1' or '0' for each cost in order
TAKE_DAILY = Script(
    _READ
    + """
local most, kept, ahead = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local used = number(read(KEYS[1]))
local answers, taken, refused = {}, 0, false
for i = 5, #ARGV do
  local cost = tonumber(ARGV[i])
  local fits = used + math.max(cost, 1) <= most
  if fits then
    used = used + cost
    taken = taken + cost
  else
    refused = true
  end
  answers[#answers + 1] = fits and '1' or '0'
end
ahead = refused and 0 or math.max(0, math.min(ahead, most - used))
used = used + ahead
if taken + ahead > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', used), 'PX', kept)
end
return {string.format('%.0f', used), ahead, table.concat(answers)}
"""
)

# KEYS: one for each limit
# ARGV: time, then for each limit: units per microsecond (0: a daily count), milliseconds to
# keep a daily count, amount that was delivered
# -> for each limit its level or count
CHARGE = Script(
    _NOW
    + _LEVEL
    + """
local levels = {}
for i, key in ipairs(KEYS) do
  local per_micro, kept = tonumber(ARGV[3 * i - 1]), ARGV[3 * i]
  local amount = tonumber(ARGV[3 * i + 1])
  local level
  if per_micro > 0 then
    level = settled(key, per_micro) + amount
    if amount > 0 then store(key, level, per_micro) end
  else
    level = number(read(key)) + amount
    if amount > 0 then redis.call('SET', key, string.format('%.0f', level), 'PX', kept) end
  end
  levels[i] = string.format('%.17g', level)
end
return levels
"""
)

# KEYS: the leases of a subject, a hash: replica -> '<how many> <until>'
# ARGV: time, microseconds that a lease lives, replica, how many it holds, most, how many more
# -> how many more it got, how many the others hold
LEASE = Script(
    _NOW
    + _READ
    + """
local life, replica = tonumber(ARGV[2]), ARGV[3]
local held, most, wanted = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local others, entries = 0, checked(KEYS[1], redis.pcall('HGETALL', KEYS[1])) or {}
for i = 1, #entries, 2 do
  if entries[i] ~= replica then
    local count, expires = string.match(entries[i + 1], '^(%d+) (%d+)$')
    if number(expires) > now then
      others = others + count
    else
      redis.call('HDEL', KEYS[1], entries[i])
    end
  end
end
local more = math.max(0, math.min(wanted, most - others - held))
held = held + more
if held > 0 then
  redis.call('HSET', KEYS[1], replica, string.format('%d %.0f', held, now + life))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life / 1000 + 10000))
else
  redis.call('HDEL', KEYS[1], replica)
end
return {more, others}
"""
)

# KEYS: for each subject the last batch of this writer, then for each tier the hash with the unit
# ARGV: number of the batch, milliseconds to remember it, how many tiers, how many counters,
# for each tier the seconds to keep it; then for each subject its unit in each tier, its counts
COUNT = Script(
    _READ
    + """
local batch, remembered = ARGV[1], ARGV[2]
local tiers, counters = tonumber(ARGV[3]), tonumber(ARGV[4])
local at = 4 + tiers
for first = 1, #KEYS, 1 + tiers do
  local writer = KEYS[first]
  if number(read(writer)) < tonumber(batch) then
    redis.call('SET', writer, batch, 'PX', remembered)
    for tier = 1, tiers do
      local key, unit = KEYS[first + tier], ARGV[at + tier]
      local sums = {}
      local counted = checked(key, redis.pcall('HGET', key, unit)) or ''
      for stored in string.gmatch(counted, '%d+') do
        sums[#sums + 1] = tonumber(stored)
      end
      for place = 1, counters do
        sums[place] = string.format('%.0f', (sums[place] or 0) + ARGV[at + tiers + place])
      end
      redis.call('HSET', key, unit, table.concat(sums, ' '))
      redis.call('EXPIRE', key, ARGV[4 + tier])
    end
  end
  at = at + tiers + counters
end
return #KEYS
"""
)
