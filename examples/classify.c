/* Classifies one image: classify MODEL.trim IMAGE.ppm
 *
 * IMAGE is a binary PPM (P6) of the size the network takes. Build: cc classify.c -I<include> -L<lib> -lparetrim */
#include <paretrim.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* words) { return fprintf(stderr, "classify: %s\n", words), 1; }

int main(int count, char** arguments) {
  if (count != 3) return fail("usage: classify MODEL.trim IMAGE.ppm");
  paretrim_network* network = paretrim_load_file(arguments[1], 1);
  paretrim_info info;
  if (!network || paretrim_describe(network, &info)) return fail(paretrim_last_error());
  if (!info.takes_pixels || info.channels != 3) return fail("the network does not take colour pixels");

  FILE* file = fopen(arguments[2], "rb");
  long width = 0, height = 0, most = 0;
  if (!file || fscanf(file, "P6 %ld %ld %ld", &width, &height, &most) != 3 || most != 255)
    return fail("the image is no 8-bit P6");
  if (width != info.width || height != info.height) return fail("the image has another size than the network takes");
  fgetc(file); /* the one white space before the pixels */

  const size_t area = (size_t)(width * height);
  unsigned char *interleaved = malloc(3 * area), *planes = malloc(3 * area);
  float* logits = malloc((size_t)info.classes * sizeof *logits);
  if (!interleaved || !planes || !logits || fread(interleaved, 3, area, file) != area) return fail("the image is cut off");
  fclose(file);
  for (size_t pixel = 0; pixel < area; ++pixel)
    for (size_t channel = 0; channel < 3; ++channel) planes[channel * area + pixel] = interleaved[3 * pixel + channel];

  if (paretrim_run(network, planes, 1, logits)) return fail(paretrim_last_error());
  int64_t best = 0;
  for (int64_t one = 1; one < info.classes; ++one) best = logits[one] > logits[best] ? one : best;
  const char* name = paretrim_class_name(network, best);
  printf("class %ld%s%s, logit %g\n", (long)best, name ? ": " : "", name ? name : "", logits[best]);

  free(interleaved), free(planes), free(logits);
  paretrim_free(network);
  return 0;
}
