// GraphiQL in a headless Chromium, and what that saw: every request, message of the console and refusal of the policy.
import { chromium } from 'playwright-core'

const PATIENCE = 30_000 // milliseconds that anything on the page may take
const SIZE = { width: 1400, height: 1000 }

export const say = (value) => console.log(JSON.stringify(value))

// Leads an open page through its steps; what the browser saw is said at the end.
export async function visit(executablePath, url, steps, colorScheme = 'light') {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
  try {
    const context = await browser.newContext({ viewport: SIZE, colorScheme })
    const seen = { requests: [], sockets: [], console: [], refused: [], failed: [], violations: [] }
    await context.exposeBinding('reportViolation', (_, violation) => seen.violations.push(violation))
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) =>
        window.reportViolation(`${event.effectiveDirective} ${event.blockedURI}`),
      )
    })
    context.on('request', (request) => seen.requests.push(request.url()))
    context.on('response', (response) => {
      if (response.status() >= 400) seen.refused.push(`${response.status()} ${response.url()}`)
    })
    context.on('console', (message) => seen.console.push(`${message.type()}: ${message.text()}`))
    context.on('weberror', (error) => seen.console.push(`uncaught: ${error.error()}`))
    const page = await context.newPage()
    page.setDefaultTimeout(PATIENCE)
    page.on('requestfailed', (request) => seen.failed.push(`${request.failure()?.errorText} ${request.url()}`))
    page.on('websocket', (socket) => seen.sockets.push(socket.url()))
    await page.goto(url)
    await steps(new GraphiQL(page))
    say(seen)
  } finally {
    await browser.close()
  }
}

class GraphiQL {
  constructor(page) {
    this.page = page
  }

  // The titles of the tabs, once the page is there and knows the schema.
  async tabs() {
    await this.page.locator('.graphiql-execute-button').waitFor()
    await this.page.waitForFunction(() => !document.querySelector('.graphiql-container .graphiql-spinner'))
    return this.page.locator('.graphiql-tab-button').allInnerTexts()
  }

  async open(title) {
    await this.page.locator('.graphiql-tab-button', { hasText: new RegExp(`^${title}$`) }).click()
    await this.page.locator('.graphiql-tab-active', { hasText: title }).waitFor()
  }

  async write(editor, text) {
    await this.page.getByRole('button', { name: editor, exact: true }).click()
    await this.page.locator('.graphiql-editor-tool .graphiql-editor:not(.hidden) .view-lines').click()
    await this.page.keyboard.press('ControlOrMeta+A')
    await this.page.keyboard.insertText(text)
    await this.page.keyboard.press('ControlOrMeta+Shift+End') // the quotes and brackets that the editor has closed
    await this.page.keyboard.press('Delete')
  }

  // Starts the operation of the tab, which has no answer yet.
  async run() {
    await this.page.locator('.graphiql-execute-button').click()
  }

  // The part of the answer that a pattern finds, as soon as it is shown.
  async shown(pattern) {
    const found = await this.page.waitForFunction((source) => {
      const lines = [...document.querySelectorAll('.graphiql-response .view-line')]
      lines.sort((one, other) => parseFloat(one.style.top) - parseFloat(other.style.top))
      const text = lines.map((line) => line.textContent.replaceAll('\u00a0', ' ')).join('\n')
      return text.match(new RegExp(source, 's'))
    }, pattern.source)
    return found.jsonValue()
  }

  async picture(file) {
    if (file) await this.page.screenshot({ path: file })
  }
}
