import { useState } from 'react'

import { isLetIn } from './fetcher.js'

// Kept for as long as the browser's tab is open.
const KEY = 'stackcast:token'

export function keptToken() {
  return sessionStorage.getItem(KEY)
}

// Asks for the token until the server takes one.
export function TokenForm({ onToken }) {
  const [refused, setRefused] = useState(false)

  async function submit(event) {
    event.preventDefault()
    const token = new FormData(event.currentTarget).get('token').trim()
    if (await isLetIn(token)) {
      sessionStorage.setItem(KEY, token)
      onToken(token)
    } else {
      setRefused(true)
    }
  }

  return (
    <form className="token" onSubmit={submit}>
      <h1>stackcast</h1>
      <label htmlFor="token">
        This server wants a token: the value of <code>STACKCAST_TOKEN</code>, or one from{' '}
        <code>STACKCAST_TOKENS_FILE</code>.
      </label>
      <input id="token" name="token" type="password" autoComplete="off" autoFocus required />
      <button>Open GraphiQL</button>
      <p role="alert">{refused && 'The server does not know this token.'}</p>
      <p>It is kept until this tab is closed, and sent with every operation.</p>
    </form>
  )
}
