// The README's follow(), printing each event, then what its sockets saw.
import { follow } from './follow.js'
import { Checked, sockets } from './sockets.js'

globalThis.WebSocket = Checked
const [url, query, id] = process.argv.slice(2)
follow(url, query, id, (event) => console.log(JSON.stringify(event)))
process.on('exit', () => console.log(JSON.stringify(sockets)))
