"""The scripts that Redis runs for shared limits: each decides and changes in one step.

Times are those of Redis's own clock, in whole seconds, so that the clocks of servers do not matter.
A script that takes answers `{granted, left, wait, second}`: units that the server may use, what is
then left of the limit, in how many seconds `least` would fit (0 if it did), and when that was.
"""

# KEYS: a hash of second -> units. ARGV: limit, want, least, life of a second's units.
TAKE_WINDOW = """
local now = tonumber(redis.call('TIME')[1])
local limit, want, least, life =
  tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local flat = redis.call('HGETALL', KEYS[1])
local used, seconds, units = 0, {}, {}
for i = 1, #flat, 2 do
  local second, amount = tonumber(flat[i]), tonumber(flat[i + 1])
  if second + life <= now then
    redis.call('HDEL', KEYS[1], flat[i])
  else
    used = used + amount
    seconds[#seconds + 1] = second
    units[second] = amount
  end
end
local left = limit - used
if left >= least then
  local granted = math.min(want, left)
  redis.call('HINCRBY', KEYS[1], now, granted)
  redis.call('EXPIRE', KEYS[1], life + 1)
  return {granted, left - granted, 0, now}
end
table.sort(seconds)
local missing, wait = least - left, life
for _, second in ipairs(seconds) do
  missing = missing - units[second]
  if missing <= 0 then
    wait = second + life - now
    break
  end
end
return {0, left, wait, now}
"""
# KEYS: the hash. ARGV: second ('' for now), units to add (below 0 to give back), life.
CHANGE_WINDOW = """
local second, units = ARGV[1], tonumber(ARGV[2])
if second == '' then
  second = redis.call('TIME')[1]
  redis.call('HINCRBY', KEYS[1], second, units)
  redis.call('EXPIRE', KEYS[1], ARGV[3])
elseif redis.call('HEXISTS', KEYS[1], second) == 1 then
  redis.call('HINCRBY', KEYS[1], second, units)
end
return 0
"""
# KEYS: a number. ARGV: limit, want, least, what was spent before, when the period ends.
TAKE_BUDGET = """
local now = tonumber(redis.call('TIME')[1])
local limit, want, least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('SET', KEYS[1], ARGV[4], 'NX', 'EXAT', tonumber(ARGV[5]) + 86400)
local left = limit - tonumber(redis.call('GET', KEYS[1]))
if left < least then
  return {0, left, tonumber(ARGV[5]) - now, now}
end
local granted = math.min(want, left)
if granted > 0 then
  redis.call('INCRBY', KEYS[1], string.format('%.0f', granted))
end
return {granted, left - granted, 0, now}
"""
# KEYS: the number. ARGV: units to add; they are not added where the period is over.
CHANGE_BUDGET = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('INCRBY', KEYS[1], ARGV[1])
end
return 0
"""
# KEYS: a hash of server -> "slots until". ARGV: limit, want, least, server, life.
TAKE_SLOTS = """
local now = tonumber(redis.call('TIME')[1])
local limit, want, least, life =
  tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local flat = redis.call('HGETALL', KEYS[1])
local used, own = 0, 0
for i = 1, #flat, 2 do
  local slots, ends = string.match(flat[i + 1], '(%d+) (%d+)')
  if tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], flat[i])
  else
    used = used + tonumber(slots)
    if flat[i] == ARGV[4] then own = tonumber(slots) end
  end
end
local left = limit - used
if left < least then return {0, left, 1, now} end
local granted = math.min(want, left)
redis.call('HSET', KEYS[1], ARGV[4], (own + granted) .. ' ' .. (now + life))
redis.call('EXPIRE', KEYS[1], life)
return {granted, left - granted, 0, now}
"""
# KEYS: the hash. ARGV: server, its slots, life.
HOLD_SLOTS = """
local now = tonumber(redis.call('TIME')[1])
if tonumber(ARGV[2]) == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. (now + tonumber(ARGV[3])))
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 0
"""
# KEYS: a sorted set of servers by when they are no longer counted. ARGV: server, life.
COUNT_SERVERS = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""
