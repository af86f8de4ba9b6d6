// A websocket for graphql-ws in Node that checks every message of the server and remembers how its sockets closed.
import { validateMessage } from 'graphql-ws'
import WebSocket from 'ws'

export const sockets = { opened: 0, messages: [], wrong: [], closed: [] }

export class Checked extends WebSocket {
  constructor(...options) {
    super(...options)
    this.on('open', () => { sockets.opened += 1 })
    this.on('close', (code) => sockets.closed.push(code))
    this.on('message', (data) => {
      try {
        sockets.messages.push(validateMessage(JSON.parse(data)).type)
      } catch (error) {
        sockets.wrong.push(`${error.message}: ${data}`)
      }
    })
  }
}
