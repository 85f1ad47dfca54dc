# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Parameters of an estimator as scikit-learn has them, without loading it before it is asked."""

from inspect import signature

__all__ = ['HasParameters']


class HasParameters:
    """
    Base of classes whose constructor stores its arguments and does nothing else.

    To scikit-learn, this is a `~sklearn.base.BaseEstimator`: its searches, pipelines and ``clone``
    ask for these methods. It costs as much to import as PyTorch, and no measurement needs it.
    """

    @classmethod
    def _get_param_names(cls):
        # without a constructor it has that of all objects, which takes anything and keeps nothing
        return [] if cls.__init__ is object.__init__ else sorted(signature(cls).parameters)

    def get_params(self, deep=True):
        """
        Return the parameters of the constructor.

        Parameters
        ----------
        deep : bool, optional
            Whether to add the parameters of those that have some of their own, by names as
            ``finder__n_pixels``.

        Returns
        -------
        params : dict
        """
        params = {}
        for name in self._get_param_names():
            params[name] = value = getattr(self, name)
            if deep and hasattr(value, 'get_params') and not isinstance(value, type):
                params |= {f'{name}__{part}': v for part, v in value.get_params().items()}
        return params

    def set_params(self, **params):
        """
        Set parameters of the constructor.

        Parameters
        ----------
        **params : object
            By their names, or those that `get_params` has.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        from sklearn.base import BaseEstimator

        return BaseEstimator.set_params(self, **params)

    def __repr__(self):
        params = signature(type(self)).parameters
        names = [name for name in params if name in self._get_param_names()]
        changed = [
            name for name in names if repr(getattr(self, name)) != repr(params[name].default)
        ]
        text = ', '.join(f'{name}={getattr(self, name)!r}' for name in changed)
        return f'{type(self).__name__}({text})'

    def _repr_html_(self):
        from sklearn.utils import estimator_html_repr

        return estimator_html_repr(self)
