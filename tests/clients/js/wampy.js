'use strict'
// Drives wampy. Usage: node wampy.js URL json|msgpack|cbor

const { Wampy } = require('wampy')
const { JsonSerializer } = require('wampy/JsonSerializer.js')
const { MsgpackSerializer } = require('wampy/MsgpackSerializer.js')
const { CborSerializer } = require('wampy/CborSerializer.js')
const WebSocket = require('ws')
const { print, serve, Gauge } = require('./lines')

const [url, serializer] = process.argv.slice(2)
const serializers = { json: JsonSerializer, msgpack: MsgpackSerializer, cbor: CborSerializer }
let wampy
// Order id -> the request id of a call.
const calls = new Map()
const gauge = new Gauge()

async function connect ({ realm, authid, ticket }) {
  const options = {
    realm,
    ws: WebSocket,
    serializer: new serializers[serializer](),
    autoReconnect: false,
    onClose: () => print({ closed: {} })
  }
  if (authid !== undefined) {
    Object.assign(options, { authid, authmethods: ['ticket'], onChallenge: () => ticket })
  }
  wampy = new Wampy(url, options)
  const details = await wampy.connect()
  return { session: wampy.getSessionId(), details }
}

function unwrap ({ argsList, argsDict, details }) {
  return { args: argsList || [], kwargs: argsDict || {}, details: details || {} }
}

function payload ({ args, kwargs }) {
  return { argsList: args || [], ...(kwargs === undefined ? {} : { argsDict: kwargs }) }
}

const endpoints = {
  // An absent part must stay absent: wampy takes an undefined one for a value.
  echo: () => ({ argsList, argsDict }) => payload({ args: argsList, kwargs: argsDict }),
  fail: order => () => {
    throw Object.assign(new Error('as told'), {
      error: order.uri, argsList: order.args, argsDict: order.kwargs
    })
  },
  count: () => ({ argsList: [count], result_handler: report }) => {
    for (let i = 0; i < count; i++) report({ argsList: [i], options: { progress: true } })
    return { argsList: [count] }
  },
  hold: order => async ({ argsList }) => {
    await gauge.hold(order.millis)
    return { argsList }
  },
  wait: () => () => {
    print({ invoked: {} })
    return new Promise(() => {})
  }
}

serve({
  connect,
  subscribe: async ({ topic, options }) => {
    const { subscriptionId } = await wampy.subscribe(topic, event => {
      print({ event: { topic, ...unwrap(event) } })
    }, options)
    return { subscription: subscriptionId }
  },
  unsubscribe: async ({ topic }) => { await wampy.unsubscribe(topic) },
  publish: async ({ topic, args, kwargs, options }) => {
    const { publicationId } = await wampy.publish(topic, payload({ args, kwargs }), options)
    return { publication: publicationId }
  },
  register: async order => {
    const endpoint = endpoints[order.endpoint](order)
    const { registrationId } = await wampy.register(order.procedure, endpoint, order.options)
    return { registration: registrationId }
  },
  call: async ({ id, procedure, args, kwargs, progress }) => {
    const report = value => print({ progress: { order: id, ...unwrap(value) } })
    const options = progress ? { progress_callback: report } : {}
    const result = wampy.call(procedure, payload({ args, kwargs }), options)
    calls.set(id, wampy.getOpStatus().reqId)
    return unwrap(await result)
  },
  cancel: ({ order, mode }) => { wampy.cancel(calls.get(order), { mode }) },
  calls: async ({ procedure, count }) => {
    const calls = Array.from({ length: count }, (_, i) => wampy.call(procedure, [i]))
    return { results: (await Promise.all(calls)).map(({ argsList }) => argsList[0]) }
  },
  gauge: () => ({ most: gauge.most, running: gauge.running }),
  leave: () => wampy.disconnect().then(() => null)
})
