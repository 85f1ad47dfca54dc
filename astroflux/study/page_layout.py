# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What stands where on the page of the study, in the order of its report."""

from dataclasses import dataclass

__all__ = ['SECTIONS', 'Block', 'SectionPlan']


@dataclass(frozen=True)
class Block:
    """
    What a section shows of a stage.

    Attributes
    ----------
    stage : str
        Name of the stage.
    title : str, optional
        Heading above it.
    rows, remarks, files : str, optional
        Patterns (`re.search`) of the rows, sentences and files that it shows. Without any of the
        three, it shows all that no other block claims.
    """

    stage: str
    title: str = ''
    rows: str = ''
    remarks: str = ''
    files: str = ''

    @property
    def is_rest(self):
        """Whether it shows what no other block claims."""
        return not (self.rows or self.remarks or self.files)


@dataclass(frozen=True)
class SectionPlan:
    """
    A section of the page.

    Attributes
    ----------
    anchor : str
        What links lead to.
    number : str
        That of the report; empty for sections that it has not.
    title, intro : str
        Heading, and a sentence on what was done.
    blocks : tuple of `Block`
        What it shows.
    """

    anchor: str
    number: str
    title: str
    intro: str
    blocks: tuple[Block, ...]


SECTIONS = (
    SectionPlan(
        'data',
        '3.1',
        'Data',
        'The galaxies are drawn to the description in the report; what it leaves open is chosen.',
        (Block('data'), Block('exploration', files=r'^example\.png$')),
    ),
    SectionPlan(
        'preprocessing',
        '3.2',
        'Data preprocessing',
        'Images are cropped, and fluxes are replaced by their decimal logarithms.',
        (Block('exploration', rows='^skewness', remarks='^The logarithm', files=r'^flux\.png$'),),
    ),
    SectionPlan(
        'visualisations',
        '3.3',
        'Data visualisations',
        'Are total flux, bulge-to-total ratio and half-light radius related?',
        (Block('exploration'),),
    ),
    SectionPlan(
        'linear',
        '3.4',
        'Linear regression',
        "Two regressions of the logarithm of the flux: on all columns but the target's and the "
        "file's name, and on R_e and Bt alone.",
        (Block('linear'),),
    ),
    SectionPlan(
        'logistic',
        '3.5',
        'Logistic regression',
        'Fluxes are sorted into low, medium and high, which a classifier is to tell from the '
        'columns of the table.',
        (Block('logistic'),),
    ),
    SectionPlan(
        'forest',
        '3.6',
        'Random forest',
        'The same classes from a random forest; and, as the report calls it both, a forest that '
        'predicts the logarithm of the flux.',
        (Block('forest'),),
    ),
    SectionPlan(
        'cnn',
        '4',
        'The convolutional network',
        'Two convolutions with pooling, a dense layer with dropout, and one output: the logarithm '
        'of the flux. The loss is the mean squared error of that logarithm.',
        (Block('cnn', remarks='^The network has', files='^architecture'),),
    ),
    SectionPlan(
        'cnn-results',
        '5.2',
        'Results of the three networks',
        'The same network, trained at two learning rates and for three numbers of epochs.',
        (Block('cnn'),),
    ),
    SectionPlan(
        'cnn-1',
        '5.2.1',
        'First CNN',
        'Ten test images drawn at random, and the absolute differences of all.',
        (Block('cnn', files='cnn-1'),),
    ),
    SectionPlan(
        'cnn-2',
        '5.2.2',
        'Second CNN',
        'The same images by the second network.',
        (Block('cnn', files='cnn-2'),),
    ),
    SectionPlan(
        'cnn-3',
        '5.2.3',
        'Third CNN',
        'The same images by the third network.',
        (Block('cnn', files='cnn-3'),),
    ),
    SectionPlan(
        'discussion',
        '6',
        'Discussion',
        'Where the losses differ from the published ones, and what the report says of them, was '
        'put to the test.',
        (Block('explanations'),),
    ),
    SectionPlan(
        'abstract',
        '',
        'What the abstract claims',
        'Accuracy against the bulge-to-total ratio and the radius, and the cost against '
        'light-profile fits: the abstract names them, the report does not show them.',
        (Block('accuracy'),),
    ),
    SectionPlan(
        'future',
        '',
        'Future work',
        'What the report would do next: principal components and factors of the columns, and a '
        'network that is given columns beside the image.',
        (Block('components', title='Components'), Block('joined', title='Joined networks')),
    ),
    SectionPlan(
        'today',
        '',
        'Against today',
        'Plain photometry, the network that ships with astroflux, and what is possible at all, on '
        'the same test images.',
        (Block('today'),),
    ),
)
