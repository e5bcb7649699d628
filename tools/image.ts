/** node dist/tools/image.js NAME...: builds guest images and prints where their parts are, as JSON lines. */
import { buildImage } from '../src/host/image/build-image.ts';

for (const name of process.argv.slice(2)) {
  const image = await buildImage(name, { progress: (line) => console.error(`image ${name}: ${line}`) });
  if (!image.ok) {
    console.error(`image: ${image.error}`);
    process.exit(2);
  }
  console.log(JSON.stringify(image.value));
}
