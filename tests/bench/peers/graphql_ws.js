// graphql-ws over ws, as its documentation shows it.
import readline from 'node:readline'
import { buildSchema } from 'graphql'
import { useServer } from 'graphql-ws/use/ws'
import { WebSocketServer } from 'ws'

const schema = buildSchema(`
  type Query { version: String }
  type LogLine { text: String! }
  type StackUpdateEventBatch { events: [LogLine!]! }
  type Subscription { stackUpdateEvents(id: ID!): StackUpdateEventBatch! }
`)
const subscribers = new Set()

const event = (...lines) => ({ stackUpdateEvents: { events: lines.map((text) => ({ text })) } })

async function* stackUpdateEvents() {
  const waiting = []
  let wake = () => {}
  const push = (line) => {
    waiting.push(line)
    wake()
  }
  subscribers.add(push)
  try {
    yield event()
    while (true) {
      while (waiting.length > 0) yield event(waiting.shift())
      await new Promise((resolve) => (wake = resolve))
    }
  } finally {
    subscribers.delete(push)
  }
}

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, path: '/graphql', backlog: 2048 })
useServer({ schema, roots: { subscription: { stackUpdateEvents } } }, server)
server.on('listening', () => console.log(`http://127.0.0.1:${server.address().port}/graphql`))
readline.createInterface({ input: process.stdin }).on('line', (line) => subscribers.forEach((push) => push(line)))
