"""``harmonyiqa data harmonyiqad | csiq | tid2013 | kadid10k | live | table``: published labels -> manifest."""

from collections.abc import Callable, Sequence

from harmonyiqa.data.manifest import Row, write_manifest
from harmonyiqa.errors import UserError


def harmonyiqad(
    labels: str,
    out: str,
    images: str | None = None,
    methods: str | None = None,
    references: str | None = None,
    composites: str | None = None,
    masks: str | None = None,
) -> int:
    """Write a manifest of HarmonyIQAD: 150 composites harmonized by 9 methods.

    Patterns are paths in which {content}, {method} and {name} stand for the numbers and the name without suffix
    of an image such as model0_1.jpg, and * for anything: "references/{content}.*".

    Args:
        labels: MOSz.xlsx as released, or a table with the columns image and mos.
        out: Manifest to write (.csv, .jsonl or .parquet); its paths start from its folder.
        images: Folder with the images, searched recursively. Default: rows name files that nobody looked for.
        methods: YAML that gives the method numbers names and groups; the default names them model0 to model8.
        references: Pattern of the untouched photos.
        composites: Pattern of the composites before harmonization.
        masks: Pattern of the foreground masks.

    Returns:
        0; 1 if anything is missing, double or unknown, all of it listed.
    """
    from harmonyiqa.data.readers.harmonyiqad import rows_of_harmonyiqad

    return _finish(
        *rows_of_harmonyiqad(labels, out, images, methods, references, composites, masks), labels, out
    )


def _set(name: str, files: str) -> Callable[[str, str], int]:
    """The command of one image quality database; it reads `SETS[name]`."""

    def command(root: str, out: str) -> int:
        from harmonyiqa.data.readers.iqa import SETS, rows_of_set

        return _finish(*rows_of_set(SETS[name], root, out), root, out)

    command.__doc__ = f"""Write a manifest of {files}.

    Args:
        root: Folder that holds these.
        out: Manifest to write (.csv, .jsonl or .parquet); its paths start from its folder.

    Returns:
        0; 1 if anything is missing, double or unknown, all of it listed.
    """
    return command


csiq = _set("csiq", "CSIQ: csiq.DMOS.xlsx, dst_imgs/, src_imgs/")
tid2013 = _set("tid2013", "TID2013: mos_with_names.txt, distorted_images/, reference_images/")
kadid10k = _set("kadid10k", "KADID-10k: dmos.csv, images/")
live = _set("live", "LIVE, release 2: dmos_realigned.mat (or dmos.mat), refnames_all.mat, six folders")


def table(
    labels: str,
    out: str,
    images: str | None = None,
    image: str = "image",
    score: str = "mos",
    reference: str | None = None,
    method: str | None = None,
    group: str | None = None,
    content: str | None = None,
    worst: float = 0,
    best: float = 100,
) -> int:
    """Write a manifest of any table of labels, whatever its columns are called.

    MOS is linear from 0 at the worst score to 100 at the best; for DMOS the worst is the larger number.

    Args:
        labels: Table (.csv, .jsonl or .parquet).
        out: Manifest to write (.csv, .jsonl or .parquet); its paths start from its folder.
        images: Folder that the table's paths start from. Default: they are taken as they stand, unchecked.
        image: Its column of image paths.
        score: Its column of scores.
        reference: Its column of reference paths.
        method: Its column of methods, or kinds of distortion.
        group: Its column of subsets that tables report alone.
        content: Its column of scenes. Default: rows of one reference show one.
        worst: The score of the worst image that the scale allows.
        best: The score of the best.

    Returns:
        0; 1 if anything is missing, double or unknown, all of it listed.
    """
    from harmonyiqa.data.readers.common import Scale
    from harmonyiqa.data.readers.table import rows_of_table

    columns = {
        "image": image,
        "mos": score,
        "reference": reference,
        "method": method,
        "group": group,
        "content": content,
    }
    return _finish(*rows_of_table(labels, out, columns, Scale(worst, best), images), labels, out)


def iharmony4(root: str, out: str, val: float = 0.05) -> int:
    """Write a manifest of iHarmony4: composites with masks and real photos, official train and test lists.

    Args:
        root: Folder with HCOCO, HAdobe5k, HFlickr, Hday2night, or some of them.
        out: Manifest to write (.csv, .jsonl or .parquet); its paths start from its folder.
        val: Share of each subset's training photos to hold out for validation.

    Returns:
        0; 1 if anything is missing, double or unknown, all of it listed.
    """
    from harmonyiqa.data.readers.harmonization import hold_out, rows_of_iharmony4

    rows, problems = rows_of_iharmony4(root, out)
    return _finish(hold_out(rows, val), problems, root, out)


def ccharmony(root: str, out: str, val: float = 0.05) -> int:
    """Write a manifest of ccHarmony: composites with masks and real photos, official train and test lists.

    Args:
        root: Folder with composite_images/, masks/, real_images/, train_list.txt, test_list.txt.
        out: Manifest to write (.csv, .jsonl or .parquet); its paths start from its folder.
        val: Share of each subset's training photos to hold out for validation.

    Returns:
        0; 1 if anything is missing, double or unknown, all of it listed.
    """
    from harmonyiqa.data.readers.harmonization import hold_out, rows_of_ccharmony

    rows, problems = rows_of_ccharmony(root, out)
    return _finish(hold_out(rows, val), problems, root, out)


def _finish(rows: Sequence[Row], problems: Sequence[str], source: str, out: str) -> int:
    from harmonyiqa.data.commands import described

    for problem in problems:
        print(problem)
    if not rows:
        raise UserError(f"{source} has no image with a label; see the problems above")
    write_manifest(rows, out)
    kinds = f"; {len(problems)} kinds of problems, listed above" if problems else ""
    print(f"{out}: {described(rows)}{kinds}")
    return 1 if problems else 0
