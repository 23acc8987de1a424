// What a reader of the live page sees and does, in headless Chromium: `node look.mjs PLAYWRIGHT PROFILE ADDRESS`.
// The guest has filled its screen with blue and echoes keys to its serial console; `q` ends it, and so the build.

import assert from 'node:assert/strict';

const [library, profile, address] = process.argv.slice(2);
const { chromium } = await import(library);
const context = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1280, height: 900 },
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const problems = [];
const elsewhere = [];

async function open() {
  const page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith('data:')) elsewhere.push(request.url());
  });
  await page.goto(address);
  return page;
}

const lines = (page) => page.locator('#lines .line.serial:visible .said');
const line = (page, text) => lines(page).filter({ hasText: new RegExp(`^serial ${text}$`) });

/** Whether the canvas shows the guest's blue. */
const blue = () => {
  const canvas = document.querySelector('#view canvas');
  if (!canvas?.width) return false;
  const pixels = [[5, 5], [canvas.width - 5, 5], [canvas.width >> 1, canvas.height - 5]];
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return canvas.width === 640 && pixels.every(([x, y]) => {
    const [red, green, light] = copy.getImageData(x, y, 1, 1).data;
    return red < 12 && green < 12 && Math.abs(light - 168) < 12;
  });
};

try {
  const page = await open();
  await line(page, 'ready').waitFor();
  assert.equal(await page.locator('#state').textContent(), 'running');
  assert.equal(await page.locator('h1 #name').textContent(), 'tiny');
  assert.equal(await page.locator('.phase[data-state="running"] .phase-name').textContent(), 'install');
  assert.equal(await page.locator('.phase[data-state="waiting"] .phase-name').textContent(), 'a step that waits');
  const clock = await page.locator('.phase[data-state="running"] .time').textContent();
  await page.waitForFunction((before) => document.querySelector('.phase[data-state="running"] .time').textContent !== before, clock);

  // Requests, of which the text is the guest's.
  assert.deepEqual(await page.locator('#requests .path').allTextContents(), ['/%3Cb%3Emissing%3C/b%3E', '/preseed.cfg']);
  assert.deepEqual(await page.locator('#requests .status').allTextContents(), ['404', '200']);
  assert.equal(await page.locator('#requests .agent').first().textContent(), 'debian-installer');

  // The screen, which is looked at only.
  await page.waitForFunction(blue);
  assert.equal(await page.locator('#mode').textContent(), 'view only');
  await page.locator('#view canvas').click();
  await page.keyboard.press('x');

  // A second reader sees the same.
  const other = await open();
  await other.waitForFunction(blue);

  // Taking over, by keyboard; the other reader is told, and may not.
  await page.locator('#take').focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#take').textContent === 'Give back');
  await other.waitForFunction(() => document.querySelector('#mode').textContent === 'another page has taken over');
  assert.equal(await other.locator('#take').isDisabled(), true);
  await page.keyboard.press('a');
  await line(page, 'a').waitFor();
  assert.equal(await line(page, 'x').count(), 0);

  // A key leads out, and then the other may.
  await page.keyboard.press('Control+Alt+KeyG');
  await page.waitForFunction(() => document.querySelector('#take').textContent === 'Take over');
  await other.waitForFunction(() => !document.querySelector('#take').disabled);

  // Filters, and a log that stays where its reader has scrolled to.
  await page.locator('#filters input[value="serial"]').uncheck();
  assert.equal(await lines(page).count(), 0);
  await page.locator('#filters input[value="serial"]').check();
  await page.locator('#find').fill('ready');
  assert.equal(await page.locator('#lines .line:visible').count(), 1);
  await page.locator('#find').fill('');
  const scrolled = () => page.locator('#lines').evaluate((box) => box.scrollTop);
  await page.locator('#lines').evaluate((box) => { box.style.height = '60px'; });
  await page.waitForFunction(() => document.querySelector('#lines').scrollTop > 0);
  await page.locator('#lines').focus();
  await page.keyboard.press('Home');
  await page.locator('#follow').waitFor();
  // The browser scrolls there in small steps.
  await page.waitForFunction(() => document.querySelector('#lines').scrollTop === 0);

  // The other takes over and ends the guest, which ends the build.
  await other.locator('#take').click();
  await other.waitForFunction(() => document.querySelector('#take').textContent === 'Give back');
  await other.keyboard.press('b');
  await line(other, 'b').waitFor();
  await page.locator('#follow', { hasText: 'newer lines' }).waitFor();
  assert.equal(await scrolled(), 0);
  await page.locator('#follow').click();
  await line(page, 'b').waitFor();
  await other.keyboard.press('q');
  for (const reader of [page, other]) {
    await reader.locator('#ending').waitFor();
    assert.equal(await reader.locator('#state').textContent(), 'failed');
    assert.match(await reader.locator('#ending').textContent(), /ended without having installed anything/);
    assert.match(await reader.locator('#no-screen').textContent(), /The build has ended/);
    assert.equal(await reader.locator('.stage[data-state="failed"]').count(), 1);
    assert.equal(await reader.locator('.phase[data-state="running"]').count(), 0);
    assert.equal(await reader.locator('#connection').isVisible(), false);
  }
  assert.deepEqual(elsewhere, []);
  assert.deepEqual(problems, []);
} catch (error) {
  console.error(`${error.stack}\nproblems: ${problems.join('\n')}`);
  process.exitCode = 1;
} finally {
  await context.close();
}
