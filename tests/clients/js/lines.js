'use strict'
// JSON lines in, JSON lines out: what the client programs in this folder share.

const readline = require('readline')

/** Prints one JSON line; bytes are written as {"$bin": hex}, integers beyond 2^53 as {"$int": decimal}. */
function print (object) {
  process.stdout.write(JSON.stringify(toJson(object)) + '\n')
}

function toJson (value) {
  if (value instanceof Uint8Array) return { $bin: Buffer.from(value).toString('hex') }
  if (Array.isArray(value)) return value.map(toJson)
  if (typeof value === 'bigint') {
    return Number.isSafeInteger(Number(value)) ? Number(value) : { $int: String(value) }
  }
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toJson(item)]))
  }
  return value
}

/** The reverse of what print does. */
function fromJson (value) {
  if (Array.isArray(value)) return value.map(fromJson)
  if (value !== null && typeof value === 'object') {
    if (typeof value.$bin === 'string') return Buffer.from(value.$bin, 'hex')
    if (typeof value.$int === 'string') return BigInt(value.$int)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fromJson(item)]))
  }
  return value
}

/** Obeys the orders on stdin with the handlers, until stdin ends. */
function serve (handlers) {
  const orders = readline.createInterface({ input: process.stdin })
  orders.on('line', async line => {
    const order = fromJson(JSON.parse(line))
    try {
      const ok = await handlers[order.do](order)
      print({ id: order.id, ok: ok === undefined ? null : ok })
    } catch (error) {
      print({ id: order.id, error: describe(error) })
    }
  })
  orders.on('close', () => process.exit(0))
}

/** WAMP errors have a URI, MQTT errors a code, others only a message. */
function describe (error) {
  if (error === null || typeof error !== 'object') return { message: String(error) }
  return {
    uri: error.errorUri || error.error,
    code: error.code,
    args: error.args || error.argsList,
    kwargs: error.kwargs || error.argsDict,
    message: error.message
  }
}

/** Counts how many calls run at the same time. */
class Gauge {
  constructor () {
    this.running = 0
    this.most = 0
  }

  async hold (millis) {
    this.running += 1
    this.most = Math.max(this.most, this.running)
    await new Promise(resolve => setTimeout(resolve, millis))
    this.running -= 1
  }
}

module.exports = { print, serve, Gauge }
